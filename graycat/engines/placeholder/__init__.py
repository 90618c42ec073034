"""The placeholder renderer: images on a machine without model weights.

A process with the HTTP API of the Stable Diffusion WebUI (as v1.10.1 has it) that draws a picture with Pillow. It is no
diffusion model, and says so in the picture, in its metadata, in the list of models and in the log.
Run as ``python -m graycat.engines.placeholder --port N``. The rest of graycat imports nothing of this package.
"""
