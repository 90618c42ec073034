from __future__ import annotations

import json
from typing import Any

import pytest

from graycat.errors import RequestError
from graycat.images.errors import InvalidImage, PromptParameter, ScriptNotAllowed
from graycat.images.scripts import check_scripts, join_names
from graycat.images.webui_requests import split_names
from tests.support.sdbodies import IMAGE, TYPICAL


@pytest.mark.parametrize("body", [{}, {"script_name": None}, {"script_name": "", "script_args": [1]}, TYPICAL])
def test_a_body_without_scripts_passes(body: dict[str, Any]) -> None:
    assert check_scripts(body, frozenset()) == body


@pytest.mark.parametrize(
    "body",
    [
        {"script_name": "x/y/z plot", "script_args": [1, "Steps"]},
        {"alwayson_scripts": {"ADETAILER": {"args": [{"image": IMAGE}, "see https://example.com"]}}},
    ],
    ids=lambda body: str(body)[:40],
)
def test_scripts_on_the_list_may_be_named_in_any_case(body: dict[str, Any]) -> None:
    assert check_scripts(body, split_names("X/Y/Z plot, ADetailer")) == body
    with pytest.raises(ScriptNotAllowed, match="allowed scripts: none"):
        check_scripts(body, frozenset())


@pytest.mark.parametrize("name", ["prompts from file or textbox", 7, ["ADetailer"], {"a": 1}, " ", [], {}, 0, False])
def test_other_scripts_may_not(name: Any) -> None:
    with pytest.raises(ScriptNotAllowed, match="ADetailer"):
        check_scripts({"script_name": name}, frozenset({"ADetailer"}))


@pytest.mark.parametrize("scripts", [1, [1], "ADetailer"])
def test_scripts_that_are_always_on_are_an_object(scripts: Any) -> None:
    with pytest.raises(RequestError, match="alwayson_scripts"):
        check_scripts({"alwayson_scripts": scripts}, frozenset({"ADetailer"}))


def nested(value: Any, depth: int) -> Any:
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "address",
    [
        "http://10.0.0.1/",
        " https://example.com/cat.png",
        "FILE:///etc/passwd",
        "/etc/passwd",
        "..\\..\\x.png",
        "C:\\x.png",
        "~/x.png",
    ],
)
def test_a_url_or_path_in_a_script_s_arguments_is_refused_at_any_depth(address: str) -> None:
    allowed = frozenset({"ControlNet"})
    for args in ([{"image": {"image": address}}], nested(address, 5000)):
        for body in ({"alwayson_scripts": {"ControlNet": {"args": args}}}, {"script_args": args}):
            with pytest.raises(InvalidImage, match="URLs"):
                check_scripts(body, allowed)


@pytest.mark.parametrize(
    "scripts",
    [
        None,
        [],
        {"ControlNet": {"args": []}},
        {"ADetailer": {"args": [False]}, "animatediff": {"args": [False]}},
        {"x": {}},
        {"x": None},
        {"x": []},
        {"x": {"args": None}},
        {"x": {"args": [{"enabled": False, "module": "canny"}, None]}},
    ],
    ids=str,
)
def test_scripts_that_are_asked_for_nothing_are_left_out(scripts: Any) -> None:
    assert check_scripts({"alwayson_scripts": scripts, "seed": 1}, frozenset()) == {"alwayson_scripts": {}, "seed": 1}


@pytest.mark.parametrize(
    "entry",
    [{"args": [True]}, {"args": [0]}, {"args": [{"enabled": True}]}, {"args": {"x": 1}}, {"more": []}, [1], 1, "x"],
)
def test_scripts_that_are_asked_for_anything_are_refused(entry: Any) -> None:
    with pytest.raises(ScriptNotAllowed, match="'ControlNet'"):
        check_scripts({"alwayson_scripts": {"ControlNet": entry}}, frozenset())


def test_a_script_on_the_list_gets_what_switches_it_off() -> None:
    body = {"alwayson_scripts": {"ADetailer": {"args": [False]}, "other": {"args": []}}}
    assert check_scripts(body, frozenset({"ADetailer"})) == {"alwayson_scripts": {"ADetailer": {"args": [False]}}}


def test_the_script_none_is_none() -> None:
    assert check_scripts({"script_name": "None"}, frozenset()) == {"script_name": None}


@pytest.mark.parametrize(
    "text",
    [
        "a.png, /etc/passwd",
        "a.png;C:/x.png",
        "one\n/etc/passwd",
        "image=/etc/passwd",
        '{"image": "/etc/passwd"}',
        json.dumps({"image": "\\u002fetc"}).replace("\\\\", "\\"),
        json.dumps({"a": json.dumps({"b": json.dumps(["../x"])})}),
        '"' + "\\" * 4 + "host" + "\\" * 2 + 'share"',
        "C:x.png",
        "$env:TEMP",
        "$HOME",
        "%TEMP%",
        "\\\\?\\C:\\x.png",
        "file:x.png",
        "[" * 100_000 + "]" * 100_000,
    ],
    ids=lambda text: text[:40],
)
def test_a_place_is_found_in_any_spelling_and_named(text: str) -> None:
    body = {"alwayson_scripts": {"ControlNet": {"args": [1, {"image": text}]}}}
    with pytest.raises(InvalidImage, match=r"'alwayson_scripts\.ControlNet\.args\[1\]\.image'"):
        check_scripts(body, frozenset({"ControlNet"}))


@pytest.mark.parametrize(
    "text",
    [
        IMAGE,
        f"data:image/png;base64,{IMAGE}",
        "Steps: 1-10(+2), 20",
        "a cat (red:1.2), [dog:fox:0.5]",
        "[1, 2",
        '{"a": 1}',
        "7 = x",
    ],
    ids=lambda text: text[:40],
)
def test_what_scripts_are_really_given_passes(text: str) -> None:
    body = {"script_name": "x", "script_args": [text, {"a": [text]}, 1, None]}
    assert check_scripts(body, frozenset({"x"})) == body


def test_lines_of_options_in_a_script_s_argument_are_refused() -> None:
    for text in ("--steps 20", "--prompt a cat\n  --width 64"):
        with pytest.raises(PromptParameter, match=r"script_args\[0\]") as refused:
            check_scripts({"script_args": [text]}, frozenset())
        assert refused.value.body()["error"]["param"] == "script_args[0]"
    check_scripts({"script_args": ["a cat -- really --no"]}, frozenset())


def test_names_are_listed_for_an_error() -> None:
    assert (join_names(frozenset()), join_names(frozenset({"b", "a"}))) == ("none", "a, b")
