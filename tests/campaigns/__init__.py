"""Long campaigns: each is a program that prints its figures and the bound that they prove; CI runs short samples."""
