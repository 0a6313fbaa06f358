"""Thin adapters: each turns one library or system interface into the core's own types, and knows no other adapter."""
