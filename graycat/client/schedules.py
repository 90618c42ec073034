"""Schedules of a server: batches by the clock. Each is the JSON object that ``GET /schedules/{name}`` answers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from graycat.client.calls import Caller, object_in
from graycat.client.errors import InvalidArgument, UnexpectedReply

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

Row = dict[str, Any]
Rows = list[Row]


class Schedules:
    """The schedules of a client's API token. Every method raises ApiError, Unreachable."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def put(self, name: str, body: Mapping[str, Any], *, replace: bool = False) -> Row:
        """Add a schedule; another one of the name is replaced, or else refused. Raises InvalidArgument."""
        try:
            data = json.dumps(dict(body) | {"name": name}, allow_nan=False).encode()
        except (ValueError, TypeError) as error:
            raise InvalidArgument(f"the schedule is no JSON: {error}") from None
        method, path = ("PUT", _path(name)) if replace else ("POST", "/schedules")
        return object_in(self._caller.call(method, path, data=data, headers={"Content-Type": "application/json"}))

    def all(self) -> Rows:
        """Return the schedules by their names."""
        return self._rows(object_in(self._caller.call("GET", "/schedules")), "schedules")

    def get(self, name: str) -> Row:
        """Return one, with how its last times went."""
        return object_in(self._caller.call("GET", _path(name)))

    def next(self, name: str, count: int) -> Rows:
        """Return coming times, each with when the jitter lets it start; in the schedule's zone."""
        return self._rows(object_in(self._caller.call("GET", f"{_path(name)}/next", params={"count": count})), "times")

    def pause(self, name: str) -> Row:
        """Have one fire nothing until it is resumed."""
        return object_in(self._caller.call("POST", f"{_path(name)}/pause"))

    def resume(self, name: str) -> Row:
        """Have a paused one fire again."""
        return object_in(self._caller.call("POST", f"{_path(name)}/resume"))

    def run_now(self, name: str, key: str | None = None) -> str:
        """Submit one's batch now; return its id. The same key again is the same batch."""
        headers = {"Idempotency-Key": key or uuid4().hex}
        return str(object_in(self._caller.call("POST", f"{_path(name)}/run", headers=headers)).get("batch", ""))

    def remove(self, name: str) -> None:
        """Remove one; its batches go on."""
        self._caller.call("DELETE", _path(name))

    def _rows(self, found: Row, field: str) -> Rows:
        rows = found.get(field)
        if not isinstance(rows, list):
            raise UnexpectedReply(f"{self._caller.url} did not answer as graycat does")
        return rows


def _path(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise InvalidArgument(
            f"{name[:80]!r}: a schedule's name has 1 to 64 letters, digits, dots, dashes, underscores"
        )
    return f"/schedules/{name}"
