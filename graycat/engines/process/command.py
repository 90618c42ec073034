"""How operators configure an engine: the command that starts it, or the URL of one that runs already."""

from __future__ import annotations

import shlex
import socket
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlsplit

from graycat.errors import SettingsError

#: How an engine is started: with a command, or with one that is only known when its checkpoints are on disk. None: it
#: is not started by graycat.
StartCommand = Sequence[str] | Callable[[], Sequence[str]] | None


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
        command = [part.format(**values) for part in shlex.split(template)]
    except (ValueError, KeyError, IndexError, AttributeError) as error:
        placeholders = ", ".join(f"{{{value}}}" for value in values)
        raise SettingsError(f"{name} is invalid ({error}); it may contain {placeholders}") from None
    if not command or not command[0]:
        raise SettingsError(f"{name} names no program")
    return command


def is_listening(url: str) -> bool:
    """Return whether a process accepts connections at an engine's URL."""
    address = urlsplit(url)
    try:
        with socket.create_connection((address.hostname or "127.0.0.1", address.port or 80), timeout=1.0):
            return True
    except OSError:
        return False
