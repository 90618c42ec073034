"""Lua scripts. Each lies in the ``lua`` folder of its package, and runs whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1
from pathlib import Path
from typing import Any

import hiredis
import redis

from graycat.broker.connections import Argument, Command, RawConnectionPool
from graycat.broker.protocol import Broker

_PACKAGE = Path(__file__).parents[1]
_REQUIRES = "-- requires:"


def load(path: Path) -> str:
    """Return a script's text, after the texts of the libraries that its first line requires.

    That line is ``-- requires: broker/prelude queue/task``: files in the ``lua`` folders of packages, in this order.
    """
    text = path.read_text(encoding="utf-8")
    first_line = text.partition("\n")[0]
    if not first_line.startswith(_REQUIRES):
        return text
    libraries = []
    for name in first_line.removeprefix(_REQUIRES).split():
        room, _, library = name.partition("/")
        libraries.append((_PACKAGE / room / "lua" / f"{library}.lua").read_text(encoding="utf-8"))
    return "".join(libraries) + text


class Scripts:
    """The scripts of one folder by their names, run on raw connections."""

    def __init__(self, client: Broker, folder: Path, names: Sequence[str]) -> None:
        self._connections = RawConnectionPool(client)
        self._texts = {name: load(folder / f"{name}.lua") for name in names}
        self._digests = {name: sha1(text.encode()).hexdigest() for name, text in self._texts.items()}  # noqa: S324

    def command(self, name: str, keys: Sequence[str], arguments: Sequence[Argument] = ()) -> Command:
        """Return the command that runs a script."""
        return ("EVALSHA", self._digests[name], len(keys), *keys, *arguments)

    def run(self, name: str, keys: Sequence[str], arguments: Sequence[Argument] = ()) -> Any:
        """Run a script and return its reply. Raises redis.ResponseError if it fails."""
        return self.run_commands([self.command(name, keys, arguments)])[0]

    def run_commands(self, commands: Sequence[Command]) -> list[Any]:
        """Run commands in one round trip and return their replies. Raises redis.ResponseError if one fails."""
        replies = self._connections.run(commands)
        missing = [number for number, reply in enumerate(replies) if _is_missing_script(reply)]
        if missing:
            # A new broker has no scripts, and SCRIPT FLUSH deletes them. A script that is missing did not run.
            self._connections.run([("SCRIPT", "LOAD", text) for text in self._texts.values()])
            new_replies = self._connections.run([commands[number] for number in missing])
            for number, reply in zip(missing, new_replies, strict=True):
                replies[number] = reply
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError):
                raise redis.ResponseError(str(reply))
        return replies


def _is_missing_script(reply: object) -> bool:
    return isinstance(reply, hiredis.ReplyError) and str(reply).startswith("NOSCRIPT")
