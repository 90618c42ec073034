"""Image batches of a server: submit a batch, follow it, control it, and download its images."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from time import sleep
from typing import Any

from graycat.client.encoding import encode
from graycat.client.errors import DamagedImage, InvalidArgument
from graycat.client.files import parse_manifest_path, write_atomically
from graycat.client.http import HttpTransport, parse_object, unexpected_reply

#: States in which a batch has ended.
BATCH_ENDED = frozenset({"succeeded", "failed", "cancelled"})
#: Items or batches that one request asks for.
PAGE_SIZE = 500
#: Seconds between two requests for the state of a batch that is waited for.
POLL_INTERVAL_S = 1.0
#: How often an image is fetched if it does not arrive as the server has it.
MAX_FETCHES = 3

_ID = re.compile(r"[A-Za-z0-9]{1,64}")
Raw = dict[str, Any]


class Batch:
    """One batch, as it was when it was last fetched: ``raw`` is the server's JSON object."""

    def __init__(self, transport: HttpTransport, raw: Raw) -> None:
        self._transport = transport
        if not isinstance(raw.get("id"), str) or not isinstance(raw.get("progress"), dict):
            raise unexpected_reply(transport.url)
        self.raw = raw

    @property
    def id(self) -> str:
        """Return the batch's id."""
        return str(self.raw["id"])

    @property
    def state(self) -> str:
        """Return the batch's state: queued, running, paused, succeeded, failed or cancelled."""
        return str(self.raw["state"])

    @property
    def done(self) -> bool:
        """Return whether the batch has ended."""
        return self.state in BATCH_ENDED

    def refresh(self) -> Batch:
        """Fetch the batch's state again; return the batch."""
        self.raw = parse_object(self._transport.request("GET", self._path()))
        return self

    def wait(self, on_change: Callable[[Batch], None] | None = None) -> Batch:
        """Wait until the batch has ended, and return it. ``on_change`` gets the batch after every change."""
        last: Raw = {}
        while True:
            self.refresh()
            if on_change is not None and self.raw != last:
                on_change(self)
            last = self.raw
            if self.done:
                return self
            sleep(POLL_INTERVAL_S)

    def pause(self) -> Batch:
        """Pause the batch: it starts no more items."""
        return self._post_verb("pause")

    def resume(self) -> Batch:
        """Resume the batch. If it has ended, the images that are missing or damaged are made again."""
        return self._post_verb("resume")

    def cancel(self) -> Batch:
        """Cancel the batch; the images that it has made stay."""
        return self._post_verb("cancel")

    def retry_failed(self) -> Batch:
        """Make the batch's failed items once more."""
        return self._post_verb("retry-failed")

    def items(self, state: str = "") -> Iterator[Raw]:
        """Yield the batch's items in the order of their numbers: all, or those in a state."""
        query = {}
        if state:
            query["state"] = state
        yield from _pages(self._transport, f"{self._path()}/items", "items", query)

    def manifest(self) -> list[Raw]:
        """Return the lines of the batch's manifest so far."""
        response = self._transport.request("GET", f"{self._path()}/manifest")
        try:
            return [json.loads(line) for line in response.content.split(b"\n") if line]
        except ValueError:
            raise unexpected_reply(self._transport.url) from None

    def image(self, number: int, digest: str) -> bytes:
        """Return the image of an item. ``digest``: its SHA-256. Raises DamagedImage if the image has another."""
        for _ in range(MAX_FETCHES):
            data = self._transport.request("GET", f"{self._path()}/items/{number}/image").content
            if sha256(data).hexdigest() == digest:
                return bytes(data)
        raise DamagedImage(f"image {number} of the batch {self.id} does not arrive as its manifest says; try again")

    def export(self, folder: str | os.PathLike[str]) -> tuple[int, int]:
        """Write the batch's images and manifest to a folder; return how many images were fetched, and how many exist.

        An image that the folder already has, with the manifest's SHA-256, is not fetched again.
        """
        entries = self.manifest()
        fetched = 0
        for entry in entries:
            path = Path(folder) / parse_manifest_path(str(entry["file"]))
            digest = str(entry["sha256"])
            if not (path.is_file() and sha256(path.read_bytes()).hexdigest() == digest):
                write_atomically(path, self.image(int(entry["item"]), digest))
                fetched += 1

        text = "".join(json.dumps(entry) + "\n" for entry in entries)
        write_atomically(Path(folder) / "manifest.jsonl", text.encode())
        return fetched, len(entries)

    def gallery(self, ttl_s: int) -> str:
        """Return a link to the batch's page. It needs no API token and works for ``ttl_s`` seconds."""
        response = self._transport.request(
            "POST", f"{self._path()}/gallery/link", data=encode({"ttl_s": ttl_s}, "the link")
        )
        link = parse_object(response).get("url")
        if not isinstance(link, str):
            raise unexpected_reply(self._transport.url)
        if link.startswith("/"):
            # A server without a public address gives the path alone.
            link = self._transport.url + link
        return link

    def _post_verb(self, verb: str) -> Batch:
        self.raw = parse_object(self._transport.request("POST", f"{self._path()}/{verb}"))
        return self

    def _path(self) -> str:
        return f"/batches/{self.id}"


class Batches:
    """The batches of the caller's API token."""

    def __init__(self, transport: HttpTransport) -> None:
        self._transport = transport

    def submit(self, spec: Mapping[str, Any], key: str) -> Batch:
        """Submit a batch; the same ``key`` and spec again are the same batch.

        Raises ApiError, Unreachable.
        """
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        response = self._transport.request("POST", "/batches", data=encode(spec, "the spec"), headers=headers)
        return Batch(self._transport, parse_object(response))

    def forecast(self, spec: Mapping[str, Any]) -> Raw:
        """Return what a batch would make: how many images, the first of them, and the seconds of GPU if known."""
        headers = {"Content-Type": "application/json"}
        query = {"dry_run": "true"}
        response = self._transport.request(
            "POST", "/batches", data=encode(spec, "the spec"), headers=headers, params=query
        )
        return parse_object(response)

    def get(self, batch_id: str) -> Batch:
        """Return a batch by its id."""
        if not _ID.fullmatch(batch_id):
            raise InvalidArgument(f"{batch_id!r} is not a batch's id")
        return Batch(self._transport, parse_object(self._transport.request("GET", f"/batches/{batch_id}")))

    def all(self) -> Iterator[Batch]:
        """Yield the batches, newest first."""
        for row in _pages(self._transport, "/batches", "batches", {}):
            yield Batch(self._transport, row)


def _pages(transport: HttpTransport, path: str, field: str, query: Mapping[str, str]) -> Iterator[Raw]:
    """Yield the rows of a list that the server answers in pages."""
    offset: int | None = 0
    while offset is not None:
        params = {"offset": offset, "limit": PAGE_SIZE, **query}
        page = parse_object(transport.request("GET", path, params=params))
        rows = page.get(field)
        if not isinstance(rows, list):
            raise unexpected_reply(transport.url)
        yield from rows
        offset = page.get("next_offset")
