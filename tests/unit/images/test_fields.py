from __future__ import annotations

from graycat.engines.placeholder.bodies import IMG2IMG, TXT2IMG
from graycat.images.fields import GENERATION_FIELDS, MEANT
from graycat.images.webui_fields import BOOL_FIELDS, FLOAT_FIELDS, INT_FIELDS, TEXT_FIELDS
from graycat.images.webui_requests import CHECKED_FIELDS, PROMPTS


def test_the_fields_of_the_webui_are_known() -> None:
    assert {field.name for field in (*TXT2IMG, *IMG2IMG)} <= GENERATION_FIELDS


def test_what_graycat_checks_in_a_generation_is_known() -> None:
    upscaling = {"image", "imageList", "model", "upscaling_resize", "extras_upscaler_2_visibility"}
    upscaling |= {"upscaler_1", "upscaler_2", "upscaling_resize_w", "upscaling_resize_h", "upscaling_crop"}
    upscaling |= {"show_extras_results", "upscale_first"}
    upscaling |= {"gfpgan_visibility", "codeformer_visibility", "codeformer_weight"}
    assert {
        *PROMPTS,
        *FLOAT_FIELDS,
        *INT_FIELDS,
        *BOOL_FIELDS,
        *TEXT_FIELDS,
        *CHECKED_FIELDS,
    } - upscaling <= GENERATION_FIELDS


def test_what_others_call_a_field_is_no_field() -> None:
    assert not MEANT.keys() & GENERATION_FIELDS
