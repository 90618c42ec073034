"""The page of a batch in the batch's own folder: index.html and the thumbnails, to be looked at without graycat."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fsspec.implementations.local import LocalFileSystem

from graycat.batches.errors import OutputUnavailable
from graycat.batches.gallery import thumbnails
from graycat.batches.gallery.page import Card, Page, card_of, over_of, render, summary_of
from graycat.batches.output import Output
from graycat.batches.records import BatchRecords
from graycat.broker.client import broker_errors
from graycat.broker.keys import batch_key
from graycat.broker.protocol import Broker
from graycat.settings import Settings
from graycat.storage.filesystems import Opened

logger = logging.getLogger(__name__)

#: Images on one page.
PAGE = 500
#: Thumbnails that one step makes.
PORTION = 8

Row = Mapping[str, Any]


class Exporter:
    """Writes the pages of batches that have ended, a step at a time."""

    def __init__(self, client: Broker, settings: Settings) -> None:
        self._client = client
        self._records = BatchRecords(client, settings)

    def step(self, batch_id: str, output: Callable[[], Output]) -> bool:
        """Take a batch's page a step further; return whether it is done, or given up. Raises BrokerUnavailable."""
        view = self._records.get(batch_id)
        key = batch_key(batch_id)
        with broker_errors():
            kept = (self._client.hget(key, "paged") or b"").decode()
        # Of another end of the batch, before it was resumed.
        ended, _, place = kept.partition(":")
        start = int(place) if ended == str(view["finished_ms"]) else 0
        if start < 0:
            return True
        try:
            rows = self._records.items(batch_id, start, PORTION)
            if rows:
                make_thumbnails(output(), rows)
                start += len(rows)
            else:
                whole = (self._records.items(batch_id, offset, PAGE) for offset in range(0, view["total"], PAGE))
                write(output(), view, whole)
                start = -1
        except OutputUnavailable as error:
            # The images are there, which is what matters.
            logger.warning("no page for a batch", extra={"batch_id": batch_id, "reason": error.reason})
            start = -1
        with broker_errors():
            self._client.hset(key, "paged", f"{view['finished_ms']}:{start}")
        return start < 0


def make_thumbnails(output: Output, rows: Iterable[Row]) -> None:
    """Make those that are not there yet. Raises OutputUnavailable."""
    for row in rows:
        if row["file"]:
            thumbnails.thumbnail(output, row["file"], row["sha256"])


def write(output: Output, view: Row, portions: Iterable[Sequence[Row]]) -> None:
    """Write a page for each portion of a batch's items: index.html, index-2.html, ... Raises OutputUnavailable."""
    count = max(1, -(-view["total"] // PAGE))
    for number, rows in enumerate(portions, start=1):
        page = Page(
            name=view["name"],
            summary=summary_of(view),
            total=view["total"],
            over=over_of(view["progress"]),
            cards=[_card(row) for row in rows],
            previous=name_of(number - 1) if number > 1 else "",
            following=name_of(number + 1) if number < count else "",
            in_a_folder=True,
        )
        output.write(name_of(number), render(page).encode())


def whole(folder: Path, view: Row, rows: Sequence[Row]) -> None:
    """Write the page of a batch whose images are in a folder of this machine. Raises OutputUnavailable."""
    here = folder.resolve()
    output = Output(Opened(LocalFileSystem(), str(here.parent), appears_whole=False), here.name)
    # What was made since the images were fetched is not there.
    known = [row if row["file"] and (here / row["file"]).is_file() else {**row, "file": ""} for row in rows]
    make_thumbnails(output, known)
    write(output, view, (known[start : start + PAGE] for start in range(0, max(len(known), 1), PAGE)))


def name_of(number: int) -> str:
    """Return the file of a page, counted from 1."""
    return "index.html" if number == 1 else f"index-{number}.html"


def _card(row: Row) -> Card:
    if not row["file"]:
        return card_of(row)
    return card_of(row, quote(row["file"]), quote(thumbnails.name_of(row["sha256"])))
