"""Lua scripts: each lies in the ``lua`` folder of its room, and runs whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1
from pathlib import Path
from typing import Any

import hiredis
import redis

from graycat.broker.connections import Command, RawConnectionPool
from graycat.broker.protocol import Broker

_PACKAGE = Path(__file__).parents[1]
_REQUIRES = "-- requires:"


def load(path: Path) -> str:
    """Return a script's text, behind the texts of what its first line requires.

    That line is ``-- requires: broker/prelude queue/task``: files in the ``lua`` folders of rooms, in this order.
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
    """The scripts of one folder by their names, run on bare connections."""

    def __init__(self, client: Broker, folder: Path, names: Sequence[str]) -> None:
        self._lanes = RawConnectionPool(client)
        self._texts = {name: load(folder / f"{name}.lua") for name in names}
        self._digests = {name: sha1(text.encode()).hexdigest() for name, text in self._texts.items()}  # noqa: S324

    def call(self, name: str, keys: Sequence[str], args: Sequence[str | int | bytes]) -> Command:
        """Return the command that runs a script."""
        return ("EVALSHA", self._digests[name], len(keys), *keys, *args)

    def run(self, *calls: Command) -> list[Any]:
        """Run calls in one round trip and return their replies. Raises redis.ResponseError for one that failed."""
        replies = self._lanes.run(calls)
        if any(isinstance(reply, hiredis.ReplyError) for reply in replies):
            replies = self._again(calls, replies)
        return replies

    def _again(self, calls: Sequence[Command], replies: list[Any]) -> list[Any]:
        """Run the calls again whose script the broker has forgotten; a new broker knows none."""
        missing = [place for place, reply in enumerate(replies) if str(reply).startswith("NOSCRIPT")]
        if missing:
            self._lanes.run([("SCRIPT", "LOAD", text) for text in self._texts.values()])
            for place, reply in zip(missing, self._lanes.run([calls[place] for place in missing]), strict=True):
                replies[place] = reply
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError):
                raise redis.ResponseError(str(reply))
        return replies
