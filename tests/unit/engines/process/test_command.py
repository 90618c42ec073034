from __future__ import annotations

import pytest

from graycat.engines.process.command import build_arguments, check_url, is_open
from graycat.errors import SettingsError


@pytest.mark.parametrize(
    ("url", "checked"),
    [
        ("http://box:7860", "http://box:7860"),
        ("http://box", "http://box"),
        ("http://box:7860/sd/", "http://box:7860/sd"),
        ("http://me:se%40cret@box:7860/", "http://me:se%40cret@box:7860"),
        ("http://[::1]:7860", "http://[::1]:7860"),
    ],
)
def test_an_address_is_taken_without_its_last_slash(url: str, checked: str) -> None:
    assert check_url(url, "A1111_URL") == checked


@pytest.mark.parametrize(
    "url", ["", "box:7860", "https://box:7860", "ftp://box", "http://", "http://:7860", "http://b:0", "http://b:port"]
)
def test_what_is_no_address_names_its_variable(url: str) -> None:
    with pytest.raises(SettingsError, match="A1111_URL must look like http://HOST:PORT"):
        check_url(url, "A1111_URL")


@pytest.mark.parametrize("url", ["https://me:se-cret@box:7860", "me:se-cret@box:7860", "http://me:se-cret@box:port"])
def test_a_refused_address_is_shown_without_its_password(url: str) -> None:
    with pytest.raises(SettingsError, match="box") as caught:
        check_url(url, "A1111_URL")
    assert "se-cret" not in str(caught.value)


def test_a_command_is_split_as_a_shell_would_and_filled_in() -> None:
    command = build_arguments("webui.sh --port {port} --name 'a b' --at={port}", {"port": 7860}, "SD_STARTUP_COMMAND")
    assert command == ["webui.sh", "--port", "7860", "--name", "a b", "--at=7860"]


def test_a_value_is_one_argument_whatever_is_in_it() -> None:
    assert build_arguments("run {model}", {"model": "a b; rm -rf '{x}'"}, "X") == ["run", "a b; rm -rf '{x}'"]


@pytest.mark.parametrize("template", ["run {model}", "run {", "run {0}", "run {port.x}", "run 'open"])
def test_an_invalid_command_names_the_placeholders(template: str) -> None:
    with pytest.raises(SettingsError, match="SD_STARTUP_COMMAND is invalid") as caught:
        build_arguments(template, {"port": 7860}, "SD_STARTUP_COMMAND")
    assert "it may contain {port}" in str(caught.value)


@pytest.mark.parametrize("template", ["", "  ", "''"])
def test_a_command_names_a_program(template: str) -> None:
    with pytest.raises(SettingsError, match="STARTUP_COMMAND names no program"):
        build_arguments(template, {"port": 7860}, "STARTUP_COMMAND")


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("run --api-key {api_key}", "{api_key}, which is empty: set GRAYCAT_ENGINE_API_KEY"),
        ("run --auth graycat:{api_key}", "{api_key}, which is empty"),
        ("run -m '{model}'", "{model}, which is empty: set MODEL_URL"),
        ("run --port {port} {other}", "{other}, which is empty: leave it out"),
        ("run --port ${port}", "without \\$"),
        ("run --port {port:>10}", "port"),
        ("run --port {port!r}", "port"),
        ("run {port.__class__}", "port.__class__"),
        ("run {PORT}", "PORT"),
        ("run {}", "it may contain"),
        ('run --json {"a": 1}', "braces of its own are doubled"),
    ],
)
def test_a_placeholder_that_cannot_be_filled_in_is_refused_with_what_to_do(template: str, reason: str) -> None:
    values = {"port": 7860, "api_key": "", "model": "", "other": ""}
    with pytest.raises(SettingsError, match=reason):
        build_arguments(template, values, "STARTUP_COMMAND")


def test_braces_that_are_doubled_are_its_own() -> None:
    assert build_arguments("run --json '{{\"a\": 1}}'", {"port": 1}, "X") == ["run", "--json", '{"a": 1}']


@pytest.mark.parametrize(
    ("command", "key", "opened"),
    [
        ("server --host 0.0.0.0", "", True),
        ("server --host=::", "", True),
        ("webui --listen --port 7860", "", True),
        ("webui --listen", "", True),
        ("comfy --listen 0.0.0.0", "", True),
        ("comfy --listen 127.0.0.1", "", False),
        ("server --host 127.0.0.1", "", False),
        ("server", "", False),
        ("server --host 0.0.0.0 --api-key secret", "", False),
        ("webui --listen --api-auth=a:b", "", False),
        ("server --host 0.0.0.0 --token sixteen-letters-", "sixteen-letters-", False),
        ("server --host 0.0.0.0", "sixteen-letters-", True),
    ],
)
def test_an_engine_that_is_open_to_everybody_is_seen(command: str, key: str, opened: bool) -> None:
    assert is_open(command.split(), key) is opened
