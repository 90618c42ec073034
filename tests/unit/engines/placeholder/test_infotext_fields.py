from __future__ import annotations

from typing import Any

from graycat.engines.placeholder.infotext_fields import apply_infotext


def test_a_request_is_filled_except_where_it_was_clear() -> None:
    fields: dict[str, Any] = {"infotext": "a fox\nSteps: 9, Seed: x, CFG scale: 3, Size: 64x32", "steps": 2, "seed": 1}
    apply_infotext(fields, {"steps"})
    assert (fields["prompt"], fields["steps"], fields["seed"], fields["cfg_scale"]) == ("a fox", 2, 1, 3.0)
    assert (fields["width"], fields["height"]) == (64, 32)


def test_without_a_text_nothing_is_filled() -> None:
    fields: dict[str, Any] = {"infotext": None, "steps": 2}
    apply_infotext(fields, set())
    assert fields == {"infotext": None, "steps": 2}
