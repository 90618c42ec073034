from __future__ import annotations

import pytest

from graycat.engines.placeholder import bodies
from graycat.errors import UnsupportedParameter
from graycat.images.fields import (
    EXTRAS_FIELDS,
    GENERATION_FIELDS,
    INTERROGATE_FIELDS,
    MEANT,
    MEANT_ELSEWHERE,
    check_known,
)
from graycat.images.webui_fields import BOOL_FIELDS, FLOAT_FIELDS, INT_FIELDS, TEXT_FIELDS
from graycat.images.webui_requests import CHECKED_FIELDS, PROMPTS


def test_the_fields_of_the_webui_are_known() -> None:
    assert {field.name for field in (*bodies.TXT2IMG, *bodies.IMG2IMG)} <= GENERATION_FIELDS
    assert {field.name for field in (*bodies.EXTRA_SINGLE, *bodies.EXTRA_BATCH)} == EXTRAS_FIELDS
    assert {field.name for field in bodies.INTERROGATE} <= INTERROGATE_FIELDS


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
    assert not MEANT_ELSEWHERE.keys() & EXTRAS_FIELDS
    assert set(MEANT_ELSEWHERE.values()) <= EXTRAS_FIELDS


@pytest.mark.parametrize(
    ("name", "known", "advice"),
    [
        ("upscaling_resiz", EXTRAS_FIELDS, "did you mean 'upscaling_resize'?"),
        ("scale", EXTRAS_FIELDS, "did you mean 'upscaling_resize'?"),
        ("prompt", EXTRAS_FIELDS, "leave it out"),
        ("init_images", INTERROGATE_FIELDS, "did you mean 'image'?"),
        # What another call has is no advice here.
        ("width", INTERROGATE_FIELDS, "leave it out"),
    ],
)
def test_a_field_that_a_call_does_not_have_is_told_with_the_one_that_is_meant(name: str, known, advice: str) -> None:
    with pytest.raises(UnsupportedParameter, match="is not a field that graycat knows") as caught:
        check_known([name], (), "input.", known, MEANT_ELSEWHERE)
    assert caught.value.param == f"input.{name}"
    assert str(caught.value).endswith(advice)
    check_known([name], [name], "input.", known)
