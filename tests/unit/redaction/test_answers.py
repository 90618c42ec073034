from __future__ import annotations

import json

import pytest

from graycat.redaction.answers import HIDDEN, hide, hide_in_reply, hide_slot_texts

SLOT = {
    "id": 1,
    "id_task": 7,
    "n_ctx": 512,
    "is_processing": True,
    "prompt": "a secret",
    "params": {"grammar": "root ::= x", "stop": ["END"]},
    "next_token": [{"n_decoded": 3}],
}


def test_of_a_slot_only_its_state_is_shown() -> None:
    assert hide("/slots", [SLOT, "rubbish"]) == [{"id": 1, "id_task": 7, "n_ctx": 512, "is_processing": True}]
    assert hide("/slots", {"error": "x"}) == []


def test_what_a_slot_works_on_is_dropped_for_everybody() -> None:
    assert hide_slot_texts([SLOT]) == [{name: value for name, value in SLOT.items() if name != "prompt"}]


def test_properties_keep_their_fields() -> None:
    props = {
        "model_path": "/srv/m/x.gguf",
        "chat_template": "{{ /a/b }}",
        "default_generation_settings": {"n_ctx": 4096, "prompt": "secret", "params": {"grammar": "secret"}},
    }
    assert hide("/props", props) == {
        "model_path": "x.gguf",
        "chat_template": "{{ /a/b }}",
        "default_generation_settings": {"n_ctx": 4096, "prompt": "", "params": {"grammar": ""}},
    }


def test_a_list_of_models_has_no_command_lines() -> None:
    entry = {"id": "/m/x.gguf", "status": {"value": "loaded", "args": ["llama-server", "-m", "/m/x.gguf"]}}
    assert hide("/v1/models", {"data": [entry]}) == {"data": [{"id": "x.gguf", "status": {"value": "loaded"}}]}


def test_an_answer_of_which_nothing_is_hidden_keeps_its_bytes() -> None:
    assert hide_in_reply("/props", b'{"n":1 }') == b'{"n":1 }'
    assert hide_in_reply("/props", b'{"model_path":"/m/x.gguf"}') == b'{"model_path": "x.gguf"}'


@pytest.mark.parametrize("route", [*HIDDEN, "options"])
@pytest.mark.parametrize("reply", [b"rubbish", b"[" * 100_000, b"[" * 5000 + b"]" * 5000])
def test_rubbish_is_not_passed_on(route: str, reply: bytes) -> None:
    assert json.loads(hide_in_reply(route, reply)) in (None, [])
