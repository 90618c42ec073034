"""Batches: many images from one spec, made in the gaps, each once, with a manifest to make them again."""
