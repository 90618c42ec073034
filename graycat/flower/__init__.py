"""Flower behind a password: what it shows and what it may send."""
