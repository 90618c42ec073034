"""Bodies of image requests, and what they may ask for."""

from __future__ import annotations

import base64
import io

from PIL import Image

from graycat.settings import Settings

SETTINGS = Settings()


def image_text(side: int = 16) -> str:
    file = io.BytesIO()
    Image.new("RGB", (side, side)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


IMAGE = image_text()


DATA_ADDRESS = f"data:image/png;base64,{IMAGE}"


#: What the most used client sends for its defaults, and then some.
TYPICAL = {
    "prompt": "a grey cat",
    "negative_prompt": "",
    "steps": 20,
    "width": 512,
    "height": 768,
    "batch_size": 1,
    "n_iter": 1,
    "enable_hr": False,
    "hr_scale": 2,
    "hr_second_pass_steps": 0,
    "hr_resize_x": 0,
    "hr_resize_y": 0,
    "firstphase_width": 0,
    "styles": [],
    "sampler_name": "Euler a",
    "override_settings": {},
    "override_settings_restore_afterwards": True,
    "script_name": None,
    "script_args": [],
    "save_images": False,
    "send_images": True,
    "alwayson_scripts": {},
    "a_field_of_tomorrow": {"kept": [1, None]},
}
