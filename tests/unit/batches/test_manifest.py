from __future__ import annotations

import json

import pytest

from graycat.batches.manifest import build_entry, file_name
from graycat.batches.plan import Item

ITEM = Item(3, "003-a", {"prompt": "a", "seed": 7, "width": 64, "height": 32, "steps": 5, "sampler_name": "Euler"})
PNG, JPEG = b"\x89PNG\r\n\x1a\n...", b"\xff\xd8\xff..."
RECORD = {
    "claimed_ms": "1000",
    "finished_ms": "3500",
    "submitted_ms": "900",
    "worker": "w",
    "task_id": "t",
    "attempts": "2",
}


def test_a_file_has_the_end_that_its_bytes_ask_for() -> None:
    assert [file_name(ITEM, data) for data in (PNG, JPEG, b"RIFF\0\0\0\0WEBP", b"?")] == [
        *("003-a.png", "003-a.jpg", "003-a.webp"),
        "003-a.bin",
    ]


def test_an_entry_has_the_engine_s_answer_and_its_request() -> None:
    info = {"seed": 8, "sd_model_name": "m", "sd_model_hash": "h", "steps": 6, "sampler_name": "DDIM", "width": 72}
    line = build_entry(ITEM, PNG, RECORD, json.dumps({"info": json.dumps(info)}).encode(), "webui")
    assert (line["item"], line["seed"], line["model"], line["model_hash"], line["steps"]) == (3, 8, "m", "h", 6)
    assert (line["width"], line["height"], line["sampler"], line["engine"]) == (72, 32, "DDIM", "webui")
    assert (line["seconds"], line["started_ms"], line["attempts"], line["request"]) == (2.5, 1000, 2, ITEM.request)


@pytest.mark.parametrize("answer", [b"", b"{}", b'{"info": 3}', b'{"info": "no json"}', b'{"info": "[]"}'])
def test_without_an_answer_the_entry_has_the_request_s_values(answer: bytes) -> None:
    line = build_entry(ITEM, PNG, RECORD, answer, "")
    assert (line["seed"], line["width"], line["sampler"], line["model_hash"]) == (7, 64, "Euler", "")
