"""Lua scripts. Each lies in the ``lua`` folder of its package, and runs whole or not at all.

Only processes at home load them: the user of a box may run what the broker has, by its digest, and bring nothing of its
own (docs/decisions/0027-boxes-touch-little.md).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from functools import cache
from hashlib import sha1
from pathlib import Path
from typing import Any

import hiredis
import redis
from redis.exceptions import NoPermissionError

from graycat.broker.connections import Argument, Command, RawConnectionPool
from graycat.broker.deadlines import Deadlines, began_ms
from graycat.broker.protocol import Broker

#: Seconds for which a box waits until home has loaded a script, which takes about one; and between two tries.
HOME_LOADS_WITHIN_S, ASK_INTERVAL_S = 8.0, 0.2

_PACKAGE = Path(__file__).parents[1]
_REQUIRES, _FLAGS = "-- requires:", "-- flags:"
#: What scripts that create something require (lua/deadline.lua).
_DEADLINE = (_PACKAGE / "broker" / "lua" / "deadline.lua").read_text(encoding="utf-8")


def load(path: Path) -> str:
    """Return a script's text, after the texts of the libraries that its header requires.

    The header is its first lines: ``-- requires: broker/prelude queue/task``, files in the ``lua`` folders of packages,
    in this order; and ``-- flags: allow-oom`` for a script that runs on a full broker, too: it ends what is there.
    """
    text = path.read_text(encoding="utf-8")
    libraries = []
    for name in _read_header(text, _REQUIRES):
        room, _, library = name.partition("/")
        libraries.append((_PACKAGE / room / "lua" / f"{library}.lua").read_text(encoding="utf-8"))
    shebang = ""
    flags = _read_header(text, _FLAGS)
    if flags:
        # The broker reads it in the very first line alone.
        shebang = f"#!lua flags={','.join(flags)}\n"
    return "".join((shebang, *libraries, text))


def _read_header(text: str, field: str) -> list[str]:
    """Return the words of a field of a script's header; none if it has no such field."""
    for line in text.split("\n", 2)[:2]:
        if line.startswith(field):
            return line.removeprefix(field).split()
    return []


@cache
def list_texts() -> tuple[str, ...]:
    """Return the texts of all scripts of all rooms; those that only others require are no scripts."""
    paths = sorted(_PACKAGE.glob("*/lua/*.lua"))
    libraries: set[str] = set()
    for path in paths:
        libraries.update(_read_header(path.read_text(encoding="utf-8"), _REQUIRES))
    texts = []
    for path in paths:
        if f"{path.parts[-3]}/{path.stem}" not in libraries:
            texts.append(load(path))
    return tuple(texts)


def digest(text: str) -> str:
    """Return the name that the broker knows a script by."""
    return sha1(text.encode()).hexdigest()  # noqa: S324 (the broker's own choice)


class ScriptLoader:
    """Loads scripts into the broker, where its user may do that."""

    def __init__(self, connections: RawConnectionPool, texts: Iterable[str] = ()) -> None:
        """``texts``: what is loaded beside the scripts of all rooms."""
        self._connections = connections
        self._texts = {digest(text): text for text in (*texts, *list_texts())}
        #: Whether the broker has refused: this is a process of a box.
        self._is_refused = False

    def load(self) -> bool:
        """Load all scripts; return False if this user may not."""
        if self._is_refused:
            return False
        try:
            self._connections.run([("SCRIPT", "LOAD", text) for text in self._texts.values()])
        except NoPermissionError:
            self._is_refused = True
            return False
        return True

    def load_missing(self) -> bool:
        """Load all scripts if the broker lacks one; return whether it has all of them now."""
        return self.has(self._texts) or self.load()

    def has(self, digests: Iterable[str]) -> bool:
        """Return whether the broker has all of some scripts."""
        (found,) = self._connections.run([("SCRIPT", "EXISTS", *digests)])
        return not isinstance(found, hiredis.ReplyError) and all(found)


class Scripts:
    """The scripts of one folder by their names, run on raw connections."""

    def __init__(self, client: Broker, folder: Path, names: Sequence[str]) -> None:
        self._connections = RawConnectionPool(client)
        self._texts = {name: load(folder / f"{name}.lua") for name in names}
        #: Scripts that do not run for a caller that has given up.
        self._timed = {name for name in names if _DEADLINE in self._texts[name]}
        self._deadlines = Deadlines(client, self._connections)
        self._digests = {name: digest(text) for name, text in self._texts.items()}
        self._loader = ScriptLoader(self._connections, self._texts.values())

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

    def are_loaded(self) -> bool:
        """Return whether the broker has these scripts; load them if this user may. May raise what a command raises."""
        return self._loader.has(self._digests.values()) or self._loader.load()

    def _run_loaded(self, commands: Sequence[Command]) -> list[Any]:
        """Run commands, and load the scripts that the broker does not have; return the replies, errors too."""
        replies = self._connections.run(commands)
        if any(map(_is_missing_script, replies)):
            # A new broker has no scripts, and SCRIPT FLUSH deletes them. A script that is missing did not run.
            is_loaded = self._loader.load()
            self._run_missing(commands, replies)
            if not is_loaded:
                self._wait_for_home(commands, replies)
        return replies

    def _run_missing(self, commands: Sequence[Command], replies: list[Any]) -> bool:
        """Run those commands again whose script was missing; return whether one still is."""
        missing = [number for number, reply in enumerate(replies) if _is_missing_script(reply)]
        if not missing:
            return False
        new_replies = self._connections.run([commands[number] for number in missing])
        for number, reply in zip(missing, new_replies, strict=True):
            replies[number] = reply
        return any(map(_is_missing_script, new_replies))

    def _wait_for_home(self, commands: Sequence[Command], replies: list[Any]) -> None:
        """Run the commands whose script is missing again until home has loaded it.

        Raises redis.ConnectionError if that takes too long: home is away, or of another version.
        """
        give_up_at = time.monotonic() + HOME_LOADS_WITHIN_S
        while self._run_missing(commands, replies):
            if time.monotonic() > give_up_at:
                raise redis.ConnectionError("home has not loaded the scripts of this version")
            time.sleep(ASK_INTERVAL_S)


def _is_missing_script(reply: object) -> bool:
    return isinstance(reply, hiredis.ReplyError) and str(reply).startswith("NOSCRIPT")
