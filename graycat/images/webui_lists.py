"""The lists of a WebUI that workers report and web answers from these reports."""

from __future__ import annotations

#: Routes that an engine answers without work and that every caller may read. Callers get the reply that the worker has
#: reported to the fleet.
WEBUI_LISTS = (
    "samplers",
    "schedulers",
    "upscalers",
    "latent-upscale-modes",
    "sd-models",
    "sd-vae",
    "sd-modules",
    "hypernetworks",
    "face-restorers",
    "realesrgan-models",
    "prompt-styles",
    "embeddings",
    "loras",
    "scripts",
    "script-info",
    "options",
)
