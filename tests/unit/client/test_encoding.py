from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from graycat.client.encoding import encode
from graycat.client.errors import InvalidArgument

ITSELF: dict[str, Any] = {}
ITSELF["a"] = ITSELF


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ({"defaults": {"cfg_scale": float("nan")}}, r"^the spec cannot .* 'defaults.cfg_scale' is no finite number"),
        ({"items": [{"seed": 1}, {"seed": float("inf")}]}, r"'items\[1\].seed' is no finite number \(inf\)"),
        ({"items": [{"due": date(2026, 1, 1)}]}, r"'items\[0\].due' is of the type date"),
        ({"items": ({1, 2},)}, r"'items\[0\]' is of the type set"),
        ({"metadata": {(1, 2): 3}}, "'metadata' is an object with a name of the type tuple"),
        (ITSELF, "it holds itself"),
    ],
)  # fmt: skip
def test_what_json_cannot_write_is_named_by_its_place(spec: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidArgument, match=complaint) as caught:
        encode(spec, "the spec")
    assert "JSON compliant" not in str(caught.value)
    assert "serializable" not in str(caught.value)


def test_all_that_json_can_write_is_written() -> None:
    assert encode({"a": [1, 2.5, None, True, {"b": "ü"}]}, "the task") == (
        rb'{"a": [1, 2.5, null, true, {"b": "\u00fc"}]}'
    )
