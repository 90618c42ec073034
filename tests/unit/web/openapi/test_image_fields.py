from __future__ import annotations

import pytest

from graycat.engines.placeholder import bodies
from graycat.web.openapi.image_fields import BODIES, FIELDS, FORM, BodyFields

WEBUI = {
    "sdapi.txt2img": bodies.TXT2IMG,
    "sdapi.img2img": bodies.IMG2IMG,
    "sdapi.extra_single": bodies.EXTRA_SINGLE,
    "sdapi.extra_batch": bodies.EXTRA_BATCH,
    "sdapi.interrogate": bodies.INTERROGATE,
    "sdapi.png_info": bodies.PNG_INFO,
}


@pytest.mark.parametrize("endpoint", BODIES)
def test_a_body_names_fields_that_are_described(endpoint: str) -> None:
    body = BODIES[endpoint]
    assert set(body.required) <= set(body.fields) <= set(FIELDS)
    assert set(body.schema()["properties"]) == set(body.fields)


@pytest.mark.parametrize("endpoint", WEBUI)
def test_the_webui_has_every_field_that_is_said_to_be_its(endpoint: str) -> None:
    assert set(BODIES[endpoint].fields) <= {field.name for field in WEBUI[endpoint]}


def test_every_described_field_is_named_by_a_body() -> None:
    assert set(FIELDS) == {name for body in BODIES.values() for name in body.fields}


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_a_field_has_a_description(name: str) -> None:
    assert FIELDS[name]["description"].endswith(".")


def test_images_are_base64_in_json_and_files_in_a_form() -> None:
    assert BodyFields(("image",)).schema()["properties"]["image"]["contentEncoding"] == "base64"
    assert BodyFields(("image",), content=FORM).schema()["properties"]["image"]["format"] == "binary"


def test_a_body_without_required_fields_lists_none() -> None:
    assert "required" not in BodyFields(("prompt",)).schema()
