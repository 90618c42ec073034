"""Batches of a server: submit one, look at it, tell it what to do, and fetch what it has made."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path, PurePosixPath
from time import sleep
from typing import Any

from graycat.client.calls import Caller, object_in
from graycat.client.errors import DamagedImage, InvalidArgument, UnexpectedReply
from graycat.client.task import written

#: States in which a batch has ended.
BATCH_ENDED = frozenset({"succeeded", "failed", "cancelled"})
#: Items or batches that one call asks for.
PAGE = 500
#: Seconds between two looks at a batch that is waited for.
LOOK_EVERY_S = 1.0

_ID = re.compile(r"[A-Za-z0-9]{1,64}")
Raw = dict[str, Any]


class Batch:
    """One batch, as it was when it was last looked at: ``raw`` is what the server told."""

    def __init__(self, caller: Caller, raw: Raw) -> None:
        self._caller = caller
        if not isinstance(raw.get("id"), str) or not isinstance(raw.get("progress"), dict):
            raise UnexpectedReply(f"{caller.url} did not answer as graycat does")
        self.raw = raw

    @property
    def id(self) -> str:
        """Return its id."""
        return str(self.raw["id"])

    @property
    def state(self) -> str:
        """Return its state: queued, running, paused, succeeded, failed or cancelled."""
        return str(self.raw["state"])

    @property
    def done(self) -> bool:
        """Tell whether it has ended."""
        return self.state in BATCH_ENDED

    def refresh(self) -> Batch:
        """Look at it again, and return it."""
        self.raw = object_in(self._caller.call("GET", self._path()))
        return self

    def wait(self, on_change: Callable[[Batch], None] | None = None) -> Batch:
        """Return it when it has ended; ``on_change`` is called with it at each look that finds news."""
        last: Raw = {}
        while True:
            self.refresh()
            if on_change is not None and self.raw != last:
                on_change(self)
            last = self.raw
            if self.done:
                return self
            sleep(LOOK_EVERY_S)

    def pause(self) -> Batch:
        """Have it start no more items."""
        return self._told("pause")

    def resume(self) -> Batch:
        """Have it go on, or make what is missing or damaged of one that has ended."""
        return self._told("resume")

    def cancel(self) -> Batch:
        """Cancel it; what it has made stays."""
        return self._told("cancel")

    def retry_failed(self) -> Batch:
        """Have its failed items made once more."""
        return self._told("retry-failed")

    def items(self, state: str = "") -> Iterator[Raw]:
        """Yield its items by their numbers: all, or those in a state."""
        offset: int | None = 0
        while offset is not None:
            wanted: dict[str, Any] = {"offset": offset, "limit": PAGE} | ({"state": state} if state else {})
            page = object_in(self._caller.call("GET", f"{self._path()}/items", params=wanted))
            rows, offset = page.get("items"), page.get("next_offset")
            if not isinstance(rows, list):
                raise UnexpectedReply(f"{self._caller.url} did not answer as graycat does")
            yield from rows

    def manifest(self) -> list[Raw]:
        """Return the lines of its manifest so far."""
        response = self._caller.call("GET", f"{self._path()}/manifest")
        try:
            return [json.loads(line) for line in response.text.splitlines()]
        except ValueError:
            raise UnexpectedReply(f"{self._caller.url} did not answer as graycat does") from None

    def image(self, number: int, digest: str) -> bytes:
        """Return the image of an item. Raises DamagedImage where it does not arrive as its SHA-256 says."""
        for _ in range(3):
            data = self._caller.call("GET", f"{self._path()}/items/{number}/image").content
            if sha256(data).hexdigest() == digest:
                return bytes(data)
        raise DamagedImage(f"image {number} of the batch {self.id} does not arrive as its manifest has it")

    def export(self, folder: str | os.PathLike[str]) -> tuple[int, int]:
        """Have its images and its manifest in a folder; return how many were fetched, and how many there are.

        What is there already, as the manifest has it, is not fetched again.
        """
        lines, fetched = self.manifest(), 0
        for line in lines:
            path = Path(folder) / inside(str(line["file"]))
            if not (path.is_file() and sha256(path.read_bytes()).hexdigest() == line["sha256"]):
                written(path, self.image(int(line["item"]), str(line["sha256"])))
                fetched += 1
        text = "".join(json.dumps(line) + "\n" for line in lines)
        written(Path(folder) / "manifest.jsonl", text.encode())
        return fetched, len(lines)

    def gallery(self, ttl_s: int) -> str:
        """Return a link to its page, which opens for so many seconds to whoever has it."""
        found = object_in(self._caller.call("POST", f"{self._path()}/gallery/link", data=_body({"ttl_s": ttl_s})))
        return f"{self._caller.url}{found.get('url')}"

    def _told(self, verb: str) -> Batch:
        self.raw = object_in(self._caller.call("POST", f"{self._path()}/{verb}"))
        return self

    def _path(self) -> str:
        return f"/batches/{self.id}"


class Batches:
    """The batches of the caller's API token."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def submit(self, spec: Mapping[str, Any], key: str) -> Batch:
        """Hand a batch to the server; the same ``key`` and spec again are the same batch.

        Raises ApiError, Unreachable.
        """
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        return Batch(self._caller, object_in(self._caller.call("POST", "/batches", data=_body(spec), headers=headers)))

    def forecast(self, spec: Mapping[str, Any]) -> Raw:
        """Return what a batch would make: how many images, the first of them, and seconds of GPU, where known."""
        headers, wanted = {"Content-Type": "application/json"}, {"dry_run": "true"}
        return object_in(self._caller.call("POST", "/batches", data=_body(spec), headers=headers, params=wanted))

    def get(self, batch_id: str) -> Batch:
        """Return a batch by its id."""
        if not _ID.fullmatch(batch_id):
            raise InvalidArgument(f"{batch_id!r} is no batch's id")
        return Batch(self._caller, object_in(self._caller.call("GET", f"/batches/{batch_id}")))

    def all(self) -> Iterator[Batch]:
        """Yield the batches, newest first."""
        offset: int | None = 0
        while offset is not None:
            page = object_in(self._caller.call("GET", "/batches", params={"offset": offset, "limit": PAGE}))
            rows, offset = page.get("batches"), page.get("next_offset")
            if not isinstance(rows, list):
                raise UnexpectedReply(f"{self._caller.url} did not answer as graycat does")
            yield from (Batch(self._caller, row) for row in rows)


def inside(file: str) -> PurePosixPath:
    """Return a file's place below a folder. Raises UnexpectedReply for one that leads elsewhere."""
    path = PurePosixPath(file)
    if path.is_absolute() or not path.parts or any(part.startswith(".") for part in path.parts) or "\\" in file:
        raise UnexpectedReply("the manifest names a file outside of its folder")
    return path


def _body(spec: Mapping[str, Any]) -> bytes:
    try:
        # Made once: the same bytes however often they are sent.
        return json.dumps(dict(spec), allow_nan=False).encode()
    except (ValueError, TypeError) as error:
        raise InvalidArgument(f"the spec is no JSON: {error}") from None
