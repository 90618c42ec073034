"""Checkpoints: where they come from, how they are downloaded, and which of them are on this machine."""
