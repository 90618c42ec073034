"""The placeholder renderer: images on a machine without weights.

A process that speaks the HTTP API of the Stable Diffusion WebUI (as v1.10.1 does) and draws a picture with Pillow. It
is no diffusion model, and says so in the picture, in its metadata, in the list of models and in the log.
Run as ``python -m graycat.engines.placeholder --port N``. Nothing in here is imported by the rest of graycat.
"""
