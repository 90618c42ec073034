"""Loops that serve many callers: their names, the threads that run them, and what they do with a bad item."""
