"""Requests for text as other programs send them, field by field as their public sources say.

Each row names its program. It sends what the program sends if nobody has changed its settings, but for the length.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.stack import Client

SILLYTAVERN = "SillyTavern 1.12.6"
OPEN_WEBUI = "Open WebUI, September 2026"

#: SillyTavern's text completion of the type "llama.cpp": fields for many servers at once, and two of its own.
_SAMPLERS: dict[str, Any] = {
    "max_new_tokens": 4,
    "max_tokens": 4,
    "n_predict": 4,
    "num_predict": 4,
    "temperature": 0.7,
    "top_p": 0.5,
    "typical_p": 1,
    "typical": 1,
    "sampler_seed": -1,
    "seed": -1,
    "min_p": 0,
    "repetition_penalty": 1.2,
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "top_k": 40,
    "skew": 0,
    "min_tokens": 0,
    "add_bos_token": True,
    "smoothing_factor": 0,
    "smoothing_curve": 1,
    "dry_allowed_length": 2,
    "dry_multiplier": 0,
    "dry_base": 1.75,
    "dry_sequence_breakers": ["\n", ":", '"', "*"],
    "dry_penalty_last_n": 0,
    "max_tokens_second": 0,
    "samplers": ["dry", "top_k", "typ_p", "top_p", "min_p", "xtc", "temperature"],
    "stopping_strings": ["\nAnna:"],
    "stop": ["\nAnna:"],
    "truncation_length": 2048,
    "ban_eos_token": False,
    "skip_special_tokens": True,
    "top_a": 0,
    "tfs": 1,
    "mirostat_mode": 0,
    "mirostat_tau": 5,
    "mirostat_eta": 0.1,
    "custom_token_bans": "",
    "banned_strings": [],
    "api_type": "llamacpp",
    "api_server": "http://127.0.0.1:8080/",
    "legacy_api": False,
    "xtc_threshold": 0.1,
    "xtc_probability": 0,
    "rep_pen": 1.2,
    "rep_pen_range": 0,
    "repetition_penalty_range": 0,
    "guidance_scale": 1,
    "negative_prompt": "",
    "grammar_string": "",
    "repeat_penalty": 1.2,
    "tfs_z": 1,
    "repeat_last_n": 0,
    "num_ctx": 2048,
    "mirostat": 0,
    "ignore_eos": False,
    "rep_pen_slope": 1,
    "logit_bias": [],
    "grammar": "",
    "cache_prompt": True,
}
COMPLETIONS: dict[str, dict[str, Any]] = {
    f"{SILLYTAVERN}: a turn": _SAMPLERS,
    f"{SILLYTAVERN}: dynamic temperature, bans and chances": _SAMPLERS
    | {
        "dynamic_temperature": True,
        "dynatemp_low": 0,
        "dynatemp_high": 2,
        "dynatemp_range": 1,
        "dynatemp_exponent": 1,
        "logit_bias": [[5, False], [7, 1.5]],
        "n_probs": 10,
        "logprobs": 10,
    },
}
CHATS: dict[str, dict[str, Any]] = {
    f"{OPEN_WEBUI}: a turn": {"stream": True},
    f"{OPEN_WEBUI}: a title": {"stream": False, "max_completion_tokens": 4},
    f"{OPEN_WEBUI}: with usage and parameters": {
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.7,
        "top_p": 0.9,
        "frequency_penalty": 0,
        "seed": 1,
        "stop": ["END"],
    },
}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("row", COMPLETIONS)
def test_a_completion_of_another_program_is_answered(api: Client, row: str, streamed: bool) -> None:
    answer = api.post("/completion", COMPLETIONS[row] | {"prompt": "1, 2, 3,", "stream": streamed})
    assert answer.status_code == 200, answer.text
    if not streamed:
        assert "content" in answer.json()
        return
    events = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    assert json.loads(events[-1])["stop"] is True


@pytest.mark.parametrize("row", CHATS)
def test_a_chat_of_another_program_is_answered(api: Client, row: str) -> None:
    (model, *_) = api.get("/v1/models").json()["data"]
    messages = [{"role": "user", "content": "1, 2, 3,"}]
    answer = api.post(
        "/v1/chat/completions", {"max_tokens": 4} | CHATS[row] | {"model": model["id"], "messages": messages}
    )
    assert answer.status_code == 200, answer.text
    if CHATS[row]["stream"]:
        assert answer.text.rstrip().endswith("data: [DONE]")
    else:
        assert answer.json()["choices"][0]["message"]["role"] == "assistant"


def test_what_a_program_asks_first_is_answered(api: Client) -> None:
    assert api.get("/v1/models").json()["data"][0]["id"]
    assert api.get("/props").json()["default_generation_settings"]["n_ctx"] > 0
    tokens = api.post("/tokenize", {"content": "1, 2, 3,"}).json()["tokens"]
    assert api.post("/detokenize", {"tokens": tokens}).status_code == 200
