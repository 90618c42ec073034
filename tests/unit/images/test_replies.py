from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from graycat.errors import EngineProtocolError
from graycat.images.replies import content_type, embed_images, extract_images
from tests.support.webuis import encoded, picture, rendered

RED, BLUE = picture("red"), picture("blue", "JPEG")


def round_trip(reply: dict[str, Any]) -> dict[str, Any]:
    """Return a reply whose images were taken out and put back."""
    without, images = extract_images(reply)
    # As it lies in a record in the meantime.
    return embed_images(json.loads(json.dumps(without)), images.__getitem__)


def test_images_are_extracted_in_order() -> None:
    without, images = extract_images(rendered(RED, BLUE, info={"seed": 1}))
    assert images == [RED, BLUE]
    assert without == {"images": [{"artifact": 0}, {"artifact": 1}], "parameters": {}, "info": '{"seed": 1}'}


@pytest.mark.parametrize(
    "reply",
    [
        rendered(RED, BLUE, info={"seed": 1}, parameters={"seed": -1, "prompt": "a fox"}),
        rendered(info={}),
        {"html_info": "<p></p>", "image": encoded(RED)},
        {"html_info": "", "image": None},
        {"html_info": "", "images": [encoded(RED)]},
        {"caption": "a fox"},
        {"images": None, "image": ""},
        {"images": [], "info": ""},
        {},
    ],
)
def test_embedding_restores_what_was_extracted(reply: dict[str, Any]) -> None:
    assert round_trip(reply) == reply


def test_extracting_does_not_change_the_reply() -> None:
    reply = rendered(RED, parameters={"mask": "AAAA"})
    before = json.dumps(reply)
    without, _ = extract_images(reply)
    kept = json.dumps(without)
    embed_images(without, [RED].__getitem__)
    assert (json.dumps(reply), json.dumps(without)) == (before, kept)


def test_a_data_address_is_an_image_too() -> None:
    _, images = extract_images({"images": [f"data:image/png;base64,{encoded(RED)}"]})
    assert images == [RED]


def test_images_that_the_caller_sent_are_dropped() -> None:
    large = encoded(RED) * 1000
    echo = {"prompt": "a fox", "init_images": [large], "mask": large, "extra_images": [large], "batch_size": 1}
    without, images = extract_images(rendered(RED, parameters=echo))
    assert images == [RED]
    blank = {"init_images": None, "mask": None, "extra_images": None}
    assert without["parameters"] == {"prompt": "a fox", "batch_size": 1} | blank


def test_an_echo_without_images_is_left_alone() -> None:
    echo = {"init_images": None, "mask": "", "prompt": "a fox"}
    assert extract_images(rendered(parameters=echo))[0]["parameters"] == echo


@pytest.mark.parametrize("image", [1, None, ["AAAA"], {"artifact": 0}, "AAAAA", "grün"])
def test_what_is_no_base64_makes_no_sense(image: Any) -> None:
    with pytest.raises(EngineProtocolError):
        extract_images({"images": [image]})


def test_values_that_are_no_images_stay() -> None:
    reply = {"images": ["as it was", {"other": 1}], "image": 5}
    assert embed_images(reply, lambda number: b"") == reply


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (RED, "image/png"),
        (BLUE, "image/jpeg"),
        (picture(kind="WEBP"), "image/webp"),
        (b"", "application/octet-stream"),
        (base64.b64encode(RED), "application/octet-stream"),
    ],
)
def test_an_image_tells_its_kind_by_its_first_bytes(image: bytes, kind: str) -> None:
    assert content_type(image) == kind
