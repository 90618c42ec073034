"""How operators configure an engine: the command that starts it, or the URL of one that runs already."""

from __future__ import annotations

import shlex
import socket
from collections.abc import Callable, Mapping, Sequence
from string import Formatter
from urllib.parse import urlsplit

from graycat.errors import SettingsError

#: How an engine is started: with a command, or with one that is only known when its checkpoints are on disk. None: it
#: is not started by graycat.
StartCommand = Sequence[str] | Callable[[], Sequence[str]] | None

#: What gives a placeholder its value.
_SOURCES = {
    "api_key": "set GRAYCAT_ENGINE_API_KEY (16 characters or more), or leave it out",
    "model": "set MODEL_URL (SD_MODEL_URL for images), or name the file itself",
}


def resolve_command(start: StartCommand) -> Sequence[str] | None:
    """Return the command that starts an engine now; None for an engine that runs already."""
    if callable(start):
        return start()
    return start


def check_url(url: str, name: str) -> str:
    """Return an engine's URL without a trailing slash.

    Raises SettingsError, naming the variable ``name``, if it is not plain http with a host.
    """
    address = urlsplit(url)
    try:
        usable = address.scheme == "http" and bool(address.hostname) and address.port != 0
    except ValueError:  # the port is not a number
        usable = False
    if not usable:
        raise SettingsError(f"{name} must look like http://HOST:PORT, not {mask_login(url)!r}")
    return url.rstrip("/")


def mask_login(url: str) -> str:
    """Return a URL with user and password replaced by ***."""
    scheme, slashes, rest = url.rpartition("://")
    login, at, host = rest.rpartition("@")
    if login:
        login = "***"
    return f"{scheme}{slashes}{login}{at}{host}"


def build_arguments(template: str, values: Mapping[str, object], name: str, *, require_key: bool = False) -> list[str]:
    """Return a start command as an argument list, its ``{placeholders}`` filled in; no shell is involved.

    ``require_key``: the command must pass ``{api_key}`` to the engine. Raises SettingsError naming the variable
    ``name``.
    """
    if require_key and "{api_key}" not in template:
        raise SettingsError(f"{name} must pass {{api_key}} to the engine: with REMOTE=false its port is public")
    try:
        parts = shlex.split(template)
        for part in parts:
            _check_placeholders(part, values, name)
        command = [part.format(**values) for part in parts]
    except (ValueError, KeyError, IndexError, AttributeError) as error:
        placeholders = ", ".join(f"{{{value}}}" for value in values)
        raise SettingsError(
            f"{name} is invalid ({error}); it may contain {placeholders}, and braces of its own are doubled"
        ) from None
    if not command or not command[0]:
        raise SettingsError(f"{name} names no program")
    return command


def _check_placeholders(part: str, values: Mapping[str, object], name: str) -> None:
    """Check the placeholders in an argument. Raises ValueError, KeyError, and SettingsError for one without a value."""
    for before, field, spec, conversion in Formatter().parse(part):
        if field is None:
            continue
        if field not in values or spec or conversion:
            raise KeyError(field)
        if before.endswith("$"):
            raise ValueError(f"no shell reads it: {{{field}}} stands without $")
        if values[field] == "":
            raise SettingsError(f"{name} has {{{field}}}, which is empty: {_SOURCES.get(field, 'leave it out')}")


#: Arguments after which an engine listens at an address, and those that mean every address by themselves.
_ADDRESS_ARGUMENTS = ("--host", "-h", "--listen", "--listen-ip", "--server-name", "--ip", "--bind")
_EVERY_ADDRESS = ("0.0.0.0", "::", "[::]", "*")  # noqa: S104 (it is what is looked for)
_KEY_ARGUMENTS = ("--api-key", "--api-key-file", "--api-auth", "--api-auth-file", "--gradio-auth")


def is_open(command: Sequence[str], key: str) -> bool:
    """Return whether a start command has an engine listen at every address without asking for a key.

    ``key``: the engine's API key; a command that has it passes it on.
    """
    listens = False
    for argument, following in zip(command, [*command[1:], ""], strict=True):
        option, equals, value = argument.partition("=")
        if option in _KEY_ARGUMENTS or (key and key in argument):
            return False
        if option in _ADDRESS_ARGUMENTS:
            listens |= (value if equals else following) in _EVERY_ADDRESS
        if option == "--listen" and not equals and (not following or following.startswith("-")):
            # AUTOMATIC1111's and ComfyUI's option without an address means every one.
            listens = True
    return listens


def is_listening(url: str) -> bool:
    """Return whether a process accepts connections at an engine's URL."""
    address = urlsplit(url)
    try:
        with socket.create_connection((address.hostname or "127.0.0.1", address.port or 80), timeout=1.0):
            return True
    except OSError:
        return False
