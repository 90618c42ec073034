from __future__ import annotations

import json

import pytest

from graycat.redaction.paths import hide_paths, hide_paths_in_error, hide_paths_in_text, is_path, model_name, short_name


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/srv/models/gemma.gguf", "gemma.gguf"),
        ("/model.gguf", "model.gguf"),
        ("/srv/webui/outputs/", "outputs"),
        ("/home/Jane Doe/models", "models"),
        (r"C:\Users\jane\x.safetensors", "x.safetensors"),
        ("D:/models/x.safetensors", "x.safetensors"),
        (r"\\server\share\x.bin", "x.bin"),
        ("~/models/x.gguf", "x.gguf"),
        ("file:///srv/models/x.gguf", "x.gguf"),
    ],
)
def test_of_a_path_the_last_part_stays(path: str, name: str) -> None:
    assert is_path(path)
    assert short_name(path) == name
    assert hide_paths({"a": [path, 1, None]}) == {"a": [name, 1, None]}


@pytest.mark.parametrize(
    "text",
    [
        "sub/model.safetensors [abc]",
        "ggml-org/gemma:Q4",
        "/",
        "/imagine",
        "and/or",
        "</s>",
        "https://h.co/a/b.c",
        "",
        "//",
    ],
)
def test_what_is_no_absolute_path_stays(text: str) -> None:
    assert not is_path(text)
    assert short_name(text) == text
    assert hide_paths_in_text(f"bad {text} here") == f"bad {text} here"


def test_a_prompt_is_no_path() -> None:
    value = {"prompt": "/imagine a cat/dog", "chat_template": "/a/b", "negative_prompt": "/x/y.z"}
    assert hide_paths(value) == value


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("failed to open '/home/Jane Doe/m/x.gguf': no such file", "failed to open 'x.gguf': no such file"),
        ('File "/opt/webui/modules/api.py", line 3', 'File "api.py", line 3'),
        ("load /srv/m/x.gguf: bad", "load x.gguf: bad"),
        ("error:/srv/m/x.gguf (path=/srv/m)", "error:x.gguf (path=m)"),
        (r"cannot read C:\models\x.ckpt!", "cannot read x.ckpt!"),
        ("/v1/chat/completions is not /sdapi/v1/txt2img", "/v1/chat/completions is not /sdapi/v1/txt2img"),
        ("half 1/2 of <s>a</s> at https://host/a/b", "half 1/2 of <s>a</s> at https://host/a/b"),
    ],
)
def test_paths_in_a_sentence_are_cut(text: str, hidden: str) -> None:
    assert hide_paths_in_text(text) == hidden


def test_an_error_keeps_its_form_and_loses_its_paths() -> None:
    error = {"error": {"code": 500, "message": "cannot open /srv/m/x.gguf", "type": "server_error"}}
    hidden = json.loads(hide_paths_in_error(json.dumps(error).encode()))
    assert hidden["error"] == {"code": 500, "message": "cannot open x.gguf", "type": "server_error"}
    assert hide_paths_in_error(b"cannot open /srv/m/x.gguf") == b"cannot open x.gguf"


def test_an_error_without_paths_keeps_its_bytes() -> None:
    for reply in (b'{ "error":{"message":"too long"}}', b"no JSON \xff", b"[" * 100_000):
        assert hide_paths_in_error(reply) == reply


def test_what_the_caller_sent_is_no_secret_however_it_is_quoted() -> None:
    body = {"tools": [{"": r"\\x\\y", "\\\\a\\r\ræ": r"C:\x"}]}
    message = f"bad tools: {json.dumps(body, ensure_ascii=False)}"
    reply = json.dumps({"error": {"message": message}}).encode()
    assert hide_paths_in_error(reply, json.dumps(body).encode()) == reply


@pytest.mark.parametrize("own", ["/a/b", r"C:\a\b", '/a/"b"/c'])
def test_what_the_caller_sent_is_no_secret(own: str) -> None:
    reply = json.dumps({"error": {"message": f"cannot parse {own} (/srv/engine/parse.cpp)"}}).encode()
    request = json.dumps({"prompt": f"x {own} y"}).encode()
    assert json.loads(hide_paths_in_error(reply, request))["error"]["message"] == f"cannot parse {own} (parse.cpp)"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("/srv/models/gemma-Q4.gguf", "gemma-Q4"),
        ("/srv/models/gemma-Q4.gguf/", "gemma-Q4"),
        ("models/gemma-Q4.GGUF", "gemma-Q4"),
        ("./süß model.gguf", "süß model"),
        ("gemma-Q4.gguf", "gemma-Q4"),
        ("C:\\models\\gemma.gguf", "gemma"),
        ("file:///srv/gemma.gguf", "gemma"),
        ("/srv/big-00001-of-00003.gguf", "big"),
        ("/srv/Llama-3.1-8B", "Llama-3.1-8B"),
        ("ggml-org/gemma:Q4_K_M", "ggml-org/gemma:Q4_K_M"),
        ("gpt-4o-mini", "gpt-4o-mini"),
        (".gguf", ".gguf"),
        ("", ""),
    ],
)
def test_a_model_is_called_by_its_file_s_name(text: str, name: str) -> None:
    assert model_name(text) == name
    assert model_name(name) == name
