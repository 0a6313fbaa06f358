"""The page in a real browser, through the real web server, on the real service."""
