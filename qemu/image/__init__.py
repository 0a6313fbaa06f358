"""Builds the board's image: Debian packages, locked wheels and this repository into one bootable, reproducible disk."""
