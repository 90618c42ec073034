"""What an operator says of an engine: the command that starts it, or the address where it runs."""

from __future__ import annotations

import shlex
import socket
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlsplit

from graycat.errors import SettingsError

#: How an engine is started: a command, one that is known when its checkpoints are here, or not by us.
Start = Sequence[str] | Callable[[], Sequence[str]] | None


def checked_url(url: str, name: str) -> str:
    """Return an engine's address. Raises SettingsError, naming the variable, where it is not plain HTTP to a host."""
    address = urlsplit(url)
    try:
        usable = address.scheme == "http" and bool(address.hostname) and address.port != 0
    except ValueError:  # the port is no number
        usable = False
    if not usable:
        raise SettingsError(f"{name} must look like http://HOST:PORT, not {without_login(url)!r}")
    return url.rstrip("/")


def without_login(url: str) -> str:
    """Return an address as it may be shown."""
    scheme, slashes, rest = url.rpartition("://")
    login, at, host = rest.rpartition("@")
    return f"{scheme}{slashes}{'***' if login else ''}{at}{host}"


def arguments(template: str, values: Mapping[str, object], name: str, *, closed: bool = False) -> list[str]:
    """Return a start command as arguments, ``{placeholders}`` filled in; it never meets a shell.

    ``closed``: it must hand the engine its key. Raises SettingsError naming the variable.
    """
    if closed and "{api_key}" not in template:
        raise SettingsError(f"{name} must hand {{api_key}} to the engine, which REMOTE=false opens to everybody")
    try:
        command = [part.format(**values) for part in shlex.split(template)]
    except (ValueError, KeyError, IndexError, AttributeError) as error:
        known = ", ".join(f"{{{value}}}" for value in values)
        raise SettingsError(f"{name} cannot be read ({error}); it may use {known}") from None
    if not command or not command[0]:
        raise SettingsError(f"{name} names no program")
    return command


def listening(url: str) -> bool:
    """Tell whether somebody listens where an engine would."""
    address = urlsplit(url)
    try:
        with socket.create_connection((address.hostname or "127.0.0.1", address.port or 80), timeout=1.0):
            return True
    except OSError:
        return False
