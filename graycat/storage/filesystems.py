"""File systems by their addresses, as fsspec knows them: a folder, a bucket, a host behind SFTP."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import fsspec
import gevent
from gevent import monkey

from graycat.errors import SettingsError

#: Stores whose objects appear whole or not at all; everywhere else a file gets its name when it is whole.
OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "adl", "oss"})


@dataclass(frozen=True)
class Opened:
    """A file system, and the folder in it. ``appears_whole``: a file there is never half written."""

    fs: Any
    root: str
    appears_whole: bool


def open_url(url: str, setting: str) -> Opened:
    """Return the folder at an address. Raises SettingsError, which names the setting that holds it.

    Called in the process that uses it: fsspec's connections do not fork.
    """
    scheme = url.partition("://")[0] if "://" in url else "file"
    try:
        options: dict[str, Any] = {}
        if fsspec.get_filesystem_class(scheme).async_impl:
            # Other processes write too: what was listed once says nothing of now.
            options = {"use_listings_cache": False, "loop": _loop_for_greenlets()}
        fs, root = fsspec.url_to_fs(url, **options)
    # The address may hold a password, so neither it nor what the file system says of it is repeated.
    except Exception as error:  # noqa: BLE001 (as many kinds as there are file systems)
        hint = "; pip install 'graycat[s3]'" if isinstance(error, ImportError) and scheme == "s3" else ""
        reason = f"{type(error).__name__} while opening its {scheme[:20]!r} address{hint}"
        raise SettingsError(f"{setting} cannot be used: {reason}") from None
    return Opened(fs, root, scheme in OBJECT_STORES)


def _loop_for_greenlets() -> asyncio.AbstractEventLoop | None:
    """Return an event loop in a thread of the kernel's where gevent has made greenlets of all others, else None.

    fsspec's own loop would run in a greenlet of the very thread that waits for it, which asyncio refuses.
    """
    if not monkey.is_module_patched("threading"):
        return None
    loops: list[asyncio.AbstractEventLoop] = []

    def run() -> None:
        loops.append(asyncio.new_event_loop())
        loops[0].run_forever()

    monkey.get_original("_thread", "start_new_thread")(run, ())
    while not loops:
        gevent.sleep(0.001)
    return loops[0]
