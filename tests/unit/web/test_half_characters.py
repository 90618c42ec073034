"""Half a character (an unpaired surrogate), which JSON can write and UTF-8 cannot, is refused in every text."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.broker import BrokerClient

HALF = "half \ud83d"
CHAT: dict[str, Any] = {"role": "user", "content": HALF}
TEXT_TASK = {"kind": "llm.completion", "input": {"prompt": "Hi"}}
#: Bodies with half a character, and where it is.
BODIES: tuple[tuple[str, dict[str, Any], str], ...] = (
    *((path, {"prompt": HALF}, "prompt") for path in ("/sdapi/v1/txt2img", "/generate-image")),
    ("/v1/images/generations", {"prompt": HALF}, "prompt"),
    ("/sdapi/v1/txt2img", {"prompt": "\0\ud83d"}, "prompt"),
    ("/sdapi/v1/txt2img", {"prompt": "x", "negative_prompt": HALF}, "negative_prompt"),
    ("/sdapi/v1/txt2img", {"prompt": "x", "styles": ["a", HALF]}, "styles[1]"),
    (
        "/sdapi/v1/txt2img",
        {"prompt": "x", "override_settings": {"samples_format": HALF}},
        "override_settings.samples_format",
    ),
    ("/sdapi/v1/txt2img", {"prompt": "x", "alwayson_scripts": {"a": {"args": [HALF]}}}, "alwayson_scripts.a.args[0]"),
    ("/sdapi/v1/txt2img", {"prompt": "x", HALF: 1}, "half \\ud83d"),
    ("/sdapi/v1/img2img", {"prompt": "x", "init_images": [HALF]}, "init_images[0]"),
    ("/sdapi/v1/interrogate", {"image": HALF}, "image"),
    ("/sdapi/v1/options", {"sd_model_checkpoint": HALF}, "sd_model_checkpoint"),
    ("/completion", {"prompt": HALF}, "prompt"),
    ("/completion", {"prompt": ["x", HALF]}, "prompt[1]"),
    ("/tokenize", {"content": HALF}, "content"),
    ("/v1/chat/completions", {"messages": [CHAT]}, "messages[0].content"),
    ("/v1/messages", {"messages": [CHAT]}, "messages[0].content"),
    ("/v1/embeddings", {"input": HALF}, "input"),
    ("/tasks", {**TEXT_TASK, "input": {"prompt": HALF}}, "input.prompt"),
    ("/tasks", {**TEXT_TASK, "metadata": {"note": HALF}}, "metadata.note"),
    ("/tasks", {**TEXT_TASK, "webhook": {"url": f"https://example.com/{HALF}"}}, "webhook.url"),
    ("/tasks", {"kind": "sd.txt2img", "input": {"prompt": HALF}}, "input.prompt"),
    ("/tokens", {"name": HALF, "scopes": ["llm"]}, "name"),
    ("/tokens/player", {"player": HALF}, "player"),
)


@pytest.mark.parametrize(("path", "body", "place"), BODIES)
def test_half_a_character_is_refused_before_anything_is_made(
    web_with, client: BrokerClient, path: str, body: dict[str, Any], place: str
) -> None:
    web = web_with(admins="tests")
    before = sorted(client.keys("*"))
    # As an escape, and as the three bytes of a surrogate, which Python's reader of JSON takes as well.
    for raw in (
        json.dumps(body).encode(),
        json.dumps(body, ensure_ascii=False).encode(errors="surrogatepass"),
    ):
        answer = web.post(path, data=raw, headers={"Prefer": "respond-async"})
        assert answer.status_code == 400, answer.json
        error = answer.json.get("error")
        message = answer.json["detail"] if isinstance(error, str) else error["message"]
        assert "half a character" in message
        assert repr(place) in message
    assert sorted(client.keys("*")) == before


@pytest.mark.parametrize("text", ["😀", "Zoë", "\0", "\\ud83d", "\\u0041"])
@pytest.mark.parametrize("escaped", [True, False])
def test_a_whole_character_is_taken(web, text: str, *, escaped: bool) -> None:
    raw = json.dumps({"prompt": text}, ensure_ascii=escaped).encode()
    assert web.post("/generate-image", data=raw, headers={"Prefer": "respond-async"}).status_code == 202


@pytest.mark.parametrize("path", ["cron", "timezone", "window", "name", "missed"])
def test_half_a_character_in_a_schedule_s_own_fields_is_refused(web, client: BrokerClient, path) -> None:
    nightly = {"name": "nightly", "cron": "0 1 * * *", "spec": {"items": ["a fox"]}, path: HALF}
    assert web.post("/schedules", data=json.dumps(nightly)).status_code == 400
    assert client.keys("graycat:schedule*") == []
