from __future__ import annotations

from typing import Any

from graycat.engines.placeholder.infotext_fields import apply_infotext


def test_an_infotext_sets_the_fields_that_were_not_sent() -> None:
    fields: dict[str, Any] = {"infotext": "a fox\nSteps: 9, Seed: x, CFG scale: 3, Size: 64x32", "steps": 2, "seed": 1}
    apply_infotext(fields, {"steps"})
    assert (fields["prompt"], fields["steps"], fields["seed"], fields["cfg_scale"]) == ("a fox", 2, 1, 3.0)
    assert (fields["width"], fields["height"]) == (64, 32)


def test_without_an_infotext_nothing_is_set() -> None:
    fields: dict[str, Any] = {"infotext": None, "steps": 2}
    apply_infotext(fields, set())
    assert fields == {"infotext": None, "steps": 2}
