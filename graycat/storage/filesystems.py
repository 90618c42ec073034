"""File systems by their URLs, as fsspec knows them: a folder, a bucket, a host behind SFTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import fsspec

from graycat.errors import GraycatError, SettingsError

#: Object stores: an object appears whole or not at all. On other file systems, graycat writes a file under another
#: name and renames it once it is whole.
OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "adl", "oss"})


@dataclass(frozen=True)
class StorageRoot:
    """A folder (``path``) on a file system.

    ``atomic_writes``: whether a reader never sees a half-written file there.
    """

    fs: Any
    path: str
    atomic_writes: bool


def open_url(url: str, setting: str) -> StorageRoot:
    """Return the folder at a URL. Raises SettingsError; its message names the ``setting`` that holds the URL.

    Call it in the process that uses the result: fsspec's connections do not survive a fork.
    """
    scheme = "file"
    if "://" in url:
        scheme = url.partition("://")[0]

    try:
        options: dict[str, Any] = {}
        if fsspec.get_filesystem_class(scheme).async_impl:
            # Other processes write to the same folder, so a cached listing would be wrong.
            options = {"use_listings_cache": False, "loop": _loop_for_greenlets()}
        fs, path = fsspec.url_to_fs(url, **options)
    # The URL may hold a password, so the message repeats neither the URL nor the file system's own message.
    except Exception as error:  # noqa: BLE001 (each file system raises errors of its own)
        reason = f"{type(error).__name__} while opening its {scheme[:20]!r} address"
        if isinstance(error, ImportError) and scheme == "s3":
            reason += "; pip install 'graycat[s3]'"
        raise SettingsError(f"{setting} cannot be used: {reason}") from None
    return StorageRoot(fs, path, scheme in OBJECT_STORES)


@contextmanager
def translate_errors(translate: Callable[[Exception], GraycatError]) -> Iterator[None]:
    """Raise ``translate(error)`` instead of any error of a file system. graycat's own errors pass unchanged."""
    try:
        yield
    except GraycatError:
        raise
    except Exception as error:  # each file system raises errors of its own, and few of them are an OSError
        raise translate(error) from error


def _loop_for_greenlets() -> asyncio.AbstractEventLoop | None:
    """Return an event loop in a native thread if gevent has patched threads, else None (fsspec then uses its own).

    Under gevent, fsspec's own loop would run in a greenlet of the same thread that waits for it; asyncio refuses that.
    """
    # Workers have no gevent, and need none for a folder on a disk.
    import gevent
    from gevent import monkey

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
