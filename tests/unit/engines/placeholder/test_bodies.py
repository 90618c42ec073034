from __future__ import annotations

import pytest

from graycat.engines.placeholder import bodies, schema
from graycat.engines.placeholder.schema import Field


@pytest.mark.parametrize(("fields", "count"), [(bodies.TXT2IMG, 55), (bodies.IMG2IMG, 57), (bodies.EXTRA_SINGLE, 14)])
def test_every_field_is_there_once(fields: tuple[Field, ...], count: int) -> None:
    names = [field.name for field in fields]
    assert len(names) == len(set(names)) == count


def test_both_generations_share_42_fields() -> None:
    txt2img, img2img = ({field.name for field in fields} for fields in (bodies.TXT2IMG, bodies.IMG2IMG))
    assert len(txt2img & img2img) == 42


@pytest.mark.parametrize("fields", [bodies.TXT2IMG, bodies.IMG2IMG, bodies.EXTRA_SINGLE, bodies.INTERROGATE])
def test_a_default_is_what_its_own_coercion_makes_of_it(fields: tuple[Field, ...]) -> None:
    for field in fields:
        if field.default is not None:
            assert field.coerce(field.default) == field.default


def test_strength_differs_between_them() -> None:
    assert schema.model(bodies.TXT2IMG)({})["denoising_strength"] is None
    assert schema.model(bodies.IMG2IMG)({})["denoising_strength"] == 0.75
