"""Writes a backup to a broker: all of it, in one step, or nothing.

The keys are written under other names first, where nothing of graycat's looks. When all are there, one script takes
away what the broker has of graycat, and gives them their names. Until then the broker is as it was.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path

import hiredis

from graycat import __version__
from graycat.backup import contents
from graycat.backup.archive import BackupFile
from graycat.backup.errors import BackupError
from graycat.backup.link import Link
from graycat.backup.values import ROW_BYTES, Row, count_entries
from graycat.broker import keys
from graycat.broker.release import parse_version
from graycat.queue.redelivery import unacked_keys
from graycat.queue.topology import CONTROL, QUEUES
from graycat.settings import Settings

#: Commands that are sent at once.
ROWS_AT_ONCE, BYTES_AT_ONCE = 1000, 4 * ROW_BYTES
#: The key that says whose restore is under way: of two at the same time, the one that began last goes on.
MARK = f"{contents.STAGING}mark"
_COMMIT = (Path(__file__).parent / "commit.lua").read_text(encoding="utf-8")

#: A worker that has died is listed for at most so many seconds; and how often that is looked at.
FORGOTTEN_S, POLL_INTERVAL_S = 8.0, 0.2

#: Called with how many of how many commands have been run.
Progress = Callable[[int, int], None]


class Restore:
    """One restore of a backup that was verified. ``force``: also while graycat's processes are connected."""

    def __init__(self, settings: Settings, backup: BackupFile, *, replace: bool, force: bool) -> None:
        self._settings = settings
        self._backup = backup
        self._replace = replace
        self._force = force
        #: What tells this restore from others, and what the names of its staged keys begin with.
        self._mark = secrets.token_hex(8)
        self._staging = f"{contents.STAGING}{self._mark}:"
        #: What the broker had before.
        self.replaced: dict[str, int] = {}

    def run(
        self, progress: Progress = lambda _done, _all: None, before_commit: Callable[[], None] = lambda: None
    ) -> None:
        """Restore it. ``before_commit``: is called when all is ready. Raises BackupError; then nothing has changed."""
        self._check_release()
        with closing(Link(self._settings)) as link:
            link.check()
            self._check_processes(link)
            self._check_contents(link)
            self._check_memory(link)
            try:
                # Also what a restore has left that did not come to its end.
                _unstage(link, contents.STAGING)
                link.ask("SET", MARK, self._mark)
                self._stage(link, progress)
                before_commit()
                self._check_processes(link)
                self._commit(link)
            except BaseException:
                # What is left, because the broker is away, is deleted by the next restore.
                with suppress(BackupError):
                    self._clean_up()
                raise

    def _clean_up(self) -> None:
        """Delete what this restore has written, and nothing of another one's."""
        # Replies that nobody waited for may still come over the other connection.
        with closing(Link(self._settings)) as link:
            if link.ask("GET", MARK) == self._mark.encode():
                link.ask("DEL", MARK)
            _unstage(link, self._staging)

    def _check_release(self) -> None:
        made_by = str(self._backup.manifest.get("graycat", ""))
        if parse_version(made_by) > parse_version(__version__):
            raise BackupError(f"the backup was made by graycat {made_by}, this is {__version__}: restore it with that")

    def _check_processes(self, link: Link) -> None:
        """Raise BackupError if web servers or workers are at work."""
        if self._force:
            return
        give_up_at = time.monotonic() + FORGOTTEN_S
        webs, workers = list_connected(link)
        # One that was killed is still listed for some seconds.
        while workers and not webs and time.monotonic() < give_up_at:
            time.sleep(POLL_INTERVAL_S)
            webs, workers = list_connected(link)
        if webs or workers:
            found = f"{webs} web servers and {len(workers)} workers{_in_brackets(workers)}"
            raise BackupError(
                f"graycat uses this broker, {found}: stop it on all machines first (--force goes on all the same: what "
                "runs now may then run twice)"
            )

    def _check_contents(self, link: Link) -> None:
        """Raise BackupError if the broker has anything that a restore would take away, and it may not."""
        self.replaced = count_contents(link)
        held = contents.describe(self.replaced)
        if held and not self._replace:
            raise BackupError(f"the broker is not empty, it has {held}: --replace deletes that")

    def _check_memory(self, link: Link) -> None:
        used, most = link.memory()
        needed = int(self._backup.manifest.get("memory_bytes", 0))
        if most and used + needed > most:
            mib = 1024 * 1024
            raise BackupError(
                f"the backup takes {needed // mib + 1} MiB of memory, the broker has {(most - used) // mib} MiB left "
                f"of {most // mib}: give it more (maxmemory, or GRAYCAT_BROKER_MAX_MEMORY_MIB)"
            )

    def _stage(self, link: Link, progress: Progress) -> None:
        """Write all keys under other names."""
        total = int(self._backup.manifest["rows"])
        done = 0
        for rows in _in_groups(self._backup.rows()):
            commands = [(row[0], self._staging.encode() + row[1], *row[2:]) for row in rows]
            for reply in link.run(commands):
                if isinstance(reply, hiredis.ReplyError):
                    raise BackupError(f"the broker refuses the backup: {reply}")
            done += len(rows)
            progress(done, total)

    def _commit(self, link: Link) -> None:
        note = {"id": self._backup.manifest["id"], "taken_at": self._backup.manifest.get("taken_at")}
        patterns = [f"{keys.PREFIX}*"]
        for name in (*QUEUES, *unacked_keys("").values()):
            patterns.append(name)
            # Control has no queues of models or workers: such keys are another program's.
            if name != CONTROL:
                patterns.append(f"{name}:*")
        command: list[str | int] = ["EVAL", _COMMIT, 0, MARK, self._mark, contents.STAGING, contents.RESTORED]
        command += [json.dumps(note), keys.PREFIX, keys.wrong_type_key(""), *patterns]
        try:
            count = link.ask(*command)
        except BackupError as error:
            # It may have run, and only its reply was lost. A second time it changes nothing.
            count = _ask_again(self._settings, command, error)
        if count < 0:
            raise BackupError("another restore has begun, or the broker was emptied: nothing was restored; try again")


def _ask_again(settings: Settings, command: Sequence[str | int], error: BackupError) -> int:
    """Run the last command once more. Raises BackupError, which begins with the first error."""
    try:
        with closing(Link(settings)) as link:
            return int(link.ask(*command))
    except BackupError:
        problem = "the backup may be in place or not: run the same command again when the broker is back"
        raise BackupError(f"{error}; {problem}") from error


def list_connected(link: Link) -> tuple[int, list[str]]:
    """Return how many web servers are connected to a broker, and which workers report to it. Raises BackupError."""
    webs = set()
    for channel in link.ask("PUBSUB", "CHANNELS", f"{keys.PREFIX}web:*"):
        # One for each family.
        webs.add(channel.rpartition(b":")[2])
    workers: set[str] = set()
    start = keys.worker_key("")
    for names in link.scan(f"{start}*"):
        workers.update(name.decode(errors="replace").removeprefix(start) for name in names)
    return len(webs), sorted(workers)


def _in_brackets(names: Sequence[str]) -> str:
    """Return the first of some names in brackets; '' if there are none."""
    if not names:
        return ""
    text = ", ".join(names[:5])
    if len(names) > len(names[:5]):
        text += ", ..."
    return f" ({text})"


def count_contents(link: Link) -> dict[str, int]:
    """Return how many of each kind a broker has (``contents.count``). Raises BackupError."""
    sizes: dict[str, int] = {}
    for names in link.scan("*"):
        kept = [name for name in names if contents.kind_of(name.decode(errors="replace"))]
        for name, size in zip(kept, count_entries(link, kept), strict=True):
            sizes[name.decode(errors="replace")] = size
    return contents.count(sizes.items())


def _unstage(link: Link, start: str) -> None:
    """Delete what restores have written and not put in place: the keys whose names have a certain start."""
    for names in link.scan(f"{start}*"):
        link.ask("UNLINK", *names)


def _in_groups(rows: Iterator[Row]) -> Iterator[list[Row]]:
    """Yield rows in groups that are sent at once."""
    group: list[Row] = []
    size = 0
    for row in rows:
        group.append(row)
        size += sum(map(len, row))
        if len(group) >= ROWS_AT_ONCE or size >= BYTES_AT_ONCE:
            yield group
            group, size = [], 0
    if group:
        yield group
