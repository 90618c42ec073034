from __future__ import annotations

import pytest

from graycat.engines.process.command import build_arguments, check_url
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
