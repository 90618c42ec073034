"""Finished images, in the broker or on any file system that fsspec knows."""
