"""Batches: many images from one spec, rendered when the engines are idle, with a manifest to make them again."""
