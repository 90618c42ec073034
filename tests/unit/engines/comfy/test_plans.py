from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from graycat.engines.comfy.plans import MAX_IMAGES, WorkflowPlan
from graycat.engines.comfy.wire import History, OutputFile
from graycat.engines.comfy.workflows import NamedWorkflow
from graycat.errors import EngineProtocolError
from tests.support.webuis import picture

PNG = picture()
SCHEMA: dict[str, Any] = {"properties": {"picture": {"contentEncoding": "base64"}, "words": {"type": "string"}}}
VALUES = {"picture": base64.b64encode(PNG).decode(), "words": "x"}


def plan(*, strip: bool = False) -> WorkflowPlan:
    named = NamedWorkflow("fox", {"9": {"class_type": "Save", "inputs": {}}}, {}, SCHEMA, "d")
    return WorkflowPlan(named, VALUES, "8" * 32, strip)


def made(count: int, folder: str = "output") -> list[OutputFile]:
    return [OutputFile(f"{number}.png", "", folder) for number in range(count)]


def test_saved_images_count_and_previews_do_not() -> None:
    history = History("success", {"9": made(2), "5": made(3, "temp")}, {"7": ["hello"]})
    answer = plan().answer(history, lambda _: PNG)
    info = json.loads(answer["info"])
    assert (len(answer["images"]), info["left_out"], info["texts"]) == (2, 3, "hello")
    assert answer["parameters"] == {"words": "x"}
    assert "workflow" in answer
    assert "workflow" not in plan(strip=True).answer(history, lambda _: PNG)


def test_previews_count_where_nothing_was_saved_and_there_is_an_end() -> None:
    answer = plan().answer(History("success", {"5": made(MAX_IMAGES + 2, "temp")}, {}), lambda _: PNG)
    assert (len(answer["images"]), json.loads(answer["info"])["left_out"]) == (MAX_IMAGES, 2)


@pytest.mark.parametrize("data", [b"<html>", b"", b"\x89PNG\r\n\x1a\n broken"])
def test_what_is_no_image_is_nonsense(data: bytes) -> None:
    with pytest.raises(EngineProtocolError):
        plan().answer(History("success", {"9": made(1)}, {}), lambda _: data)
    with pytest.raises(EngineProtocolError):
        plan().answer(History("success", {}, {}), lambda _: PNG)


def test_pictures_are_uploaded_and_nothing_else() -> None:
    assert plan().uploads == {"picture": PNG}
