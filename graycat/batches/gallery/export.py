"""Writes a batch's gallery into its own folder: index.html and thumbnails, to be viewed without graycat."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fsspec.implementations.local import LocalFileSystem

from graycat.batches.errors import OutputUnavailable
from graycat.batches.gallery.page import Card, Page, build_card, count_finished, render, summarize
from graycat.batches.gallery.thumbnails import load_or_create_thumbnail, thumbnail_file
from graycat.batches.output import Output
from graycat.batches.records import BatchRecords
from graycat.broker.client import broker_errors
from graycat.broker.keys import batch_key
from graycat.broker.protocol import Broker
from graycat.errors import BrokerUnavailable
from graycat.loops.unexpected import note
from graycat.settings import Settings
from graycat.storage.filesystems import StorageRoot

logger = logging.getLogger(__name__)

#: Images on one page.
IMAGES_PER_PAGE = 500
#: Thumbnails that one step creates.
THUMBNAILS_PER_STEP = 8
#: In place of the next item's offset: the gallery is written, or given up.
_FINISHED = -1

Row = Mapping[str, Any]


class Exporter:
    """Writes the galleries of batches that have ended, one step at a time."""

    def __init__(self, client: Broker, settings: Settings) -> None:
        self._client = client
        self._records = BatchRecords(client, settings)

    def step(self, batch_id: str, output: Callable[[], Output]) -> bool:
        """Do the next step of a batch's gallery; return whether it is written or given up. Raises BrokerUnavailable."""
        view = self._records.get(batch_id)
        offset = self._load_progress(batch_id, view)
        if offset == _FINISHED:
            return True
        try:
            rows = self._records.list_items(batch_id, offset, THUMBNAILS_PER_STEP)
            if rows:
                create_thumbnails(output(), rows)
                offset += len(rows)
            else:
                write_pages(output(), view, self._pages(view))
                offset = _FINISHED
        except BrokerUnavailable:
            raise
        except OutputUnavailable as error:
            # The images are there, and they matter more.
            logger.warning("no page for a batch", extra={"batch_id": batch_id, "reason": error.reason})
            offset = _FINISHED
        except Exception as error:  # noqa: BLE001 (without a page, the batch ends all the same)
            note("gallery", error)
            offset = _FINISHED

        with broker_errors():
            self._client.hset(batch_key(batch_id), "paged", f"{view['finished_ms']}:{offset}")
        return offset == _FINISHED

    def _load_progress(self, batch_id: str, view: Row) -> int:
        """Return the offset of the next item that needs a thumbnail, or _FINISHED."""
        with broker_errors():
            stored = (self._client.hget(batch_key(batch_id), "paged") or b"").decode()
        finished_ms, _, offset = stored.partition(":")
        if finished_ms != str(view["finished_ms"]):
            # There is none, or it was stored when the batch ended before, and the batch was resumed since.
            return 0
        return int(offset)

    def _pages(self, view: Row) -> Iterable[Sequence[Row]]:
        for offset in range(0, view["total"], IMAGES_PER_PAGE):
            yield self._records.list_items(view["id"], offset, IMAGES_PER_PAGE)


def create_thumbnails(output: Output, rows: Iterable[Row]) -> None:
    """Create the thumbnails that do not exist yet. Raises OutputUnavailable."""
    for row in rows:
        if row["file"]:
            load_or_create_thumbnail(output, row["file"], row["sha256"])


def write_pages(output: Output, view: Row, pages: Iterable[Sequence[Row]]) -> None:
    """Write a page for each part of a batch's items: index.html, index-2.html, ... Raises OutputUnavailable."""
    count = max(1, -(-view["total"] // IMAGES_PER_PAGE))
    for number, rows in enumerate(pages, start=1):
        page = Page(
            name=view["name"],
            summary=summarize(view),
            total=view["total"],
            finished=count_finished(view["progress"]),
            cards=[_build_card(row) for row in rows],
            previous=page_file(number - 1) if number > 1 else "",
            following=page_file(number + 1) if number < count else "",
            in_a_folder=True,
        )
        output.write(page_file(number), render(page).encode())


def write_local_gallery(folder: Path, view: Row, rows: Sequence[Row]) -> None:
    """Write the gallery of a batch whose images were downloaded to a local folder. Raises OutputUnavailable."""
    here = folder.resolve()
    root = StorageRoot(LocalFileSystem(), str(here.parent), atomic_writes=False)
    output = Output(root, here.name)

    local_rows: list[Row] = []
    for row in rows:
        if row["file"] and not (here / row["file"]).is_file():
            # The image was made after the download.
            local_rows.append({**row, "file": ""})
        else:
            local_rows.append(row)
    create_thumbnails(output, local_rows)

    starts = range(0, max(len(local_rows), 1), IMAGES_PER_PAGE)
    write_pages(output, view, [local_rows[start : start + IMAGES_PER_PAGE] for start in starts])


def page_file(number: int) -> str:
    """Return the name of a page's file; pages are counted from 1."""
    return "index.html" if number == 1 else f"index-{number}.html"


def _build_card(row: Row) -> Card:
    if not row["file"]:
        return build_card(row)
    return build_card(row, quote(row["file"]), quote(thumbnail_file(row["sha256"])))
