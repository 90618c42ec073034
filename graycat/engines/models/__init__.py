"""Checkpoints: where they come from, their download, and which of them a worker has."""
