"""Lua scripts. Each lies in the ``lua`` folder of its package, and runs whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1
from pathlib import Path
from typing import Any

import hiredis
import redis

from graycat.broker.connections import Argument, Command, RawConnectionPool
from graycat.broker.deadlines import Deadlines, began_ms
from graycat.broker.protocol import Broker

_PACKAGE = Path(__file__).parents[1]
_REQUIRES = "-- requires:"
#: What scripts that create something require (lua/deadline.lua).
_DEADLINE = (_PACKAGE / "broker" / "lua" / "deadline.lua").read_text(encoding="utf-8")


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
        #: Scripts that do not run for a caller that has given up.
        self._timed = {name for name in names if _DEADLINE in self._texts[name]}
        self._deadlines = Deadlines(client, self._connections)
        self._digests = {name: sha1(text.encode()).hexdigest() for name, text in self._texts.items()}  # noqa: S324

    def command(self, name: str, keys: Sequence[str], arguments: Sequence[Argument] = ()) -> Command:
        """Return the command that runs a script."""
        if name in self._timed:
            arguments = (*arguments, self._deadlines.next_ms())
        return ("EVALSHA", self._digests[name], len(keys), *keys, *arguments)

    def run(self, name: str, keys: Sequence[str], arguments: Sequence[Argument] = ()) -> Any:
        """Run a script and return its reply. Raises redis.ResponseError if it fails."""
        return self.run_commands([self.command(name, keys, arguments)])[0]

    def run_commands(self, commands: Sequence[Command]) -> list[Any]:
        """Run commands in one round trip and return their replies.

        Raises redis.ResponseError if one fails, and redis.TimeoutError if one was not run because it came too late.
        """
        began = began_ms()
        replies = self._run_loaded(commands)
        late = [number for number, reply in enumerate(replies) if self._deadlines.is_late(reply)]
        if late:
            # The deadline is the last argument.
            again = [(*commands[number][:-1], self._deadlines.next_ms()) for number in late]
            new_replies: list[Any] = []
            if not self._deadlines.gives_up(began):
                new_replies = self._run_loaded(again)
            if not new_replies or any(map(self._deadlines.is_late, new_replies)):
                raise redis.TimeoutError("the broker was too late")
            for number, reply in zip(late, new_replies, strict=True):
                replies[number] = reply
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError):
                raise redis.ResponseError(str(reply))
        return replies

    def _run_loaded(self, commands: Sequence[Command]) -> list[Any]:
        """Run commands, and load the scripts that the broker does not have; return the replies, errors too."""
        replies = self._connections.run(commands)
        missing = [number for number, reply in enumerate(replies) if _is_missing_script(reply)]
        if missing:
            # A new broker has no scripts, and SCRIPT FLUSH deletes them. A script that is missing did not run.
            self._connections.run([("SCRIPT", "LOAD", text) for text in self._texts.values()])
            new_replies = self._connections.run([commands[number] for number in missing])
            for number, reply in zip(missing, new_replies, strict=True):
                replies[number] = reply
        return replies


def _is_missing_script(reply: object) -> bool:
    return isinstance(reply, hiredis.ReplyError) and str(reply).startswith("NOSCRIPT")
