"""Decodes, checks and rewrites images and the bodies of image requests."""
