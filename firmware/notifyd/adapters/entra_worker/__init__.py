"""The short-lived worker: one operation with MSAL or on sealed secrets, then it ends.

`__main__` reads the request and answers it; `operations` does it; `http` is the transport under MSAL; `answers` checks
what came over it; `grants` and `credentials` are what gets sealed; `idtoken` judges whose token it is.
"""
