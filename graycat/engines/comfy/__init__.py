"""ComfyUI: its wire, its socket, and workflows for it. ``graycat.engines.comfyui`` puts them together."""
