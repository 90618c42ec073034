"""The options behind ``/options``: global, of any type, kept until the process ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from graycat.engines.placeholder import catalog
from graycat.engines.placeholder.errors import ValidationError
from graycat.engines.placeholder.schema import Coerce, Invalid, array, boolean, mapping, number, text

#: The options that have an effect here, and those that API clients are known to read or to send.
DEFAULTS: dict[str, Any] = {
    "samples_save": True,
    "samples_format": "png",
    "samples_filename_pattern": "",
    "grid_save": True,
    "grid_format": "png",
    "grid_only_if_multiple": True,
    "grid_prevent_empty_spots": False,
    "n_rows": -1,
    "enable_pnginfo": True,
    "save_txt": False,
    "jpeg_quality": 80,
    "webp_lossless": False,
    "img_max_size_mp": 200,
    "save_incomplete_images": False,
    "save_mask": False,
    "save_mask_composite": False,
    "outdir_samples": "",
    "upscaler_for_img2img": None,
    "face_restoration": False,
    "face_restoration_model": "CodeFormer",
    "code_former_weight": 0.5,
    "api_enable_requests": True,
    "api_forbid_local_requests": True,
    "api_useragent": "",
    "sd_model_checkpoint": catalog.TITLE,
    "sd_checkpoint_hash": catalog.SHA256,
    "sd_checkpoints_limit": 1,
    "sd_checkpoints_keep_in_cpu": True,
    "sd_checkpoint_cache": 0,
    "sd_unet": "Automatic",
    "sd_vae": "Automatic",
    "sd_vae_checkpoint_cache": 0,
    "sd_vae_overrides_per_model_preferences": True,
    "enable_emphasis": True,
    "enable_batch_seeds": True,
    "comma_padding_backtrack": 20,
    "CLIP_stop_at_last_layers": 1,
    "upcast_attn": False,
    "randn_source": "GPU",
    "tiling": False,
    "inpainting_mask_weight": 1.0,
    "initial_noise_multiplier": 1.0,
    "img2img_color_correction": False,
    "img2img_fix_steps": False,
    "img2img_background_color": "#ffffff",
    "return_mask": False,
    "return_mask_composite": False,
    "add_model_hash_to_info": True,
    "add_model_name_to_info": True,
    "add_version_to_infotext": True,
    "return_grid": True,
    "do_not_show_images": False,
    "sd_lora": "None",
    "sd_hypernetwork": "None",
    "lora_preferred_name": "Alias from file",
    "show_progressbar": True,
    "live_previews_enable": True,
    "live_previews_image_format": "png",
    "show_progress_grid": True,
    "show_progress_every_n_steps": 10,
    "show_progress_type": "Approx NN",
    "live_preview_refresh_period": 1000,
    "hide_samplers": [],
    "eta_ddim": 0.0,
    "eta_ancestral": 1.0,
    "ddim_discretize": "uniform",
    "s_churn": 0.0,
    "s_tmin": 0.0,
    "s_tmax": 0.0,
    "s_noise": 1.0,
    "eta_noise_seed_delta": 0,
    "disabled_extensions": [],
    "disable_all_extensions": "none",
}

#: Clients may read these options; attempts to change them are silently ignored.
RESTRICTED = frozenset(name for name in DEFAULTS if name.startswith("api_"))

_COERCIONS: dict[type, Coerce] = {bool: boolean, int: number, float: number, str: text, list: array, dict: mapping}


class Options:
    """The options of one process."""

    def __init__(self) -> None:
        self._values = dict(DEFAULTS)

    def __getitem__(self, name: str) -> Any:
        """Return an option. Raises KeyError."""
        return self._values[name]

    def set(self, name: str, value: Any) -> None:
        """Change an option; as upstream, without a check of the type. Raises KeyError for an unknown option."""
        if name not in self._values:
            raise KeyError(name)
        if name not in RESTRICTED:
            self._values[name] = value

    def update(self, changes: dict[str, Any]) -> None:
        """Change options one after another. If one is unknown, those before it stay changed.

        Raises RuntimeError for an unknown checkpoint before any change, and KeyError for an unknown option.
        """
        checkpoint = changes.get("sd_model_checkpoint")
        if checkpoint is not None and checkpoint not in catalog.CHECKPOINT_ALIASES:
            raise RuntimeError(f"model {checkpoint!r} not found")
        for name, value in changes.items():
            self.set(name, value)

    @contextmanager
    def override(self, changes: dict[str, Any], *, restore: bool) -> Iterator[None]:
        """Change options for a while, or for good. Raises KeyError for an unknown option before any change."""
        before = {name: self._values[name] for name in changes}
        try:
            for name, value in changes.items():
                self.set(name, value)
            yield
        finally:
            if restore:
                self._values.update(before)

    def to_dict(self) -> dict[str, Any]:
        """Return all options as upstream does: integers as floats, unless their default is 0.

        Raises ValidationError if one has a value of the wrong type.
        """
        return {name: self._coerce(name, value) for name, value in self._values.items()}

    def _coerce(self, name: str, value: Any) -> Any:
        default = DEFAULTS[name]
        # The type of an empty default is unknown; null is valid for all others.
        if not default or value is None:
            return value
        try:
            return _COERCIONS[type(default)](value)
        except Invalid as error:
            raise ValidationError(f"1 validation error for Options: {name}: {error.problems[0].msg}") from None
