"""Schedules of a server: batches by the clock. Each is the JSON object that ``GET /schedules/{name}`` answers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from graycat.client.encoding import encode
from graycat.client.errors import InvalidArgument
from graycat.client.http import HttpTransport, parse_object, unexpected_reply

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

Row = dict[str, Any]
Rows = list[Row]


class Schedules:
    """The schedules of a client's API token. Every method raises ApiError, Unreachable."""

    def __init__(self, transport: HttpTransport) -> None:
        self._transport = transport

    def put(self, name: str, body: Mapping[str, Any], *, replace: bool = False) -> Row:
        """Add a schedule. If the name is taken, replace that schedule or raise ScheduleExists.

        Raises InvalidArgument for a body that is not JSON.
        """
        data = encode(dict(body) | {"name": name}, "the schedule")
        if replace:
            method, path = "PUT", _path(name)
        else:
            method, path = "POST", "/schedules"
        return parse_object(
            self._transport.request(method, path, data=data, headers={"Content-Type": "application/json"})
        )

    def all(self) -> Rows:
        """Return the schedules, sorted by name."""
        return self._rows(parse_object(self._transport.request("GET", "/schedules")), "schedules")

    def get(self, name: str) -> Row:
        """Return a schedule, with the outcomes of its last times."""
        return parse_object(self._transport.request("GET", _path(name)))

    def next(self, name: str, count: int) -> Rows:
        """Return the next times in the schedule's zone, each with the moment at which the jitter lets it start."""
        response = self._transport.request("GET", f"{_path(name)}/next", params={"count": count})
        return self._rows(parse_object(response), "times")

    def pause(self, name: str) -> Row:
        """Pause a schedule: it submits nothing until it is resumed."""
        return parse_object(self._transport.request("POST", f"{_path(name)}/pause"))

    def resume(self, name: str) -> Row:
        """Resume a paused schedule."""
        return parse_object(self._transport.request("POST", f"{_path(name)}/resume"))

    def run_now(self, name: str, key: str | None = None) -> str:
        """Submit a schedule's batch now; return the batch's id. The same key again is the same batch."""
        headers = {"Idempotency-Key": key or uuid4().hex}
        answer = parse_object(self._transport.request("POST", f"{_path(name)}/run", headers=headers))
        return str(answer.get("batch", ""))

    def remove(self, name: str) -> None:
        """Remove a schedule; its batches go on."""
        self._transport.request("DELETE", _path(name))

    def _rows(self, answer: Row, field: str) -> Rows:
        rows = answer.get(field)
        if not isinstance(rows, list):
            raise unexpected_reply(self._transport.url)
        return rows


def _path(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise InvalidArgument(
            f"{name[:80]!r}: a schedule's name has 1 to 64 letters, digits, dots, dashes, underscores"
        )
    return f"/schedules/{name}"
