"""Flower behind a password, with the few commands that it may send to workers."""
