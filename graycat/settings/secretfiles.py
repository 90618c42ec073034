"""Secrets that graycat generates: each in a file of its own, which only its owner can read."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path


def load_or_create(path: Path, make: Callable[[], str]) -> str:
    """Return the secret in the file ``path``; the first call generates it with ``make``."""
    if path.exists():
        return path.read_text().strip()
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}")
    fresh.touch(mode=0o600)
    fresh.write_text(make() + "\n")
    try:
        # The file appears complete, and only once: of two processes that start together, one wins.
        os.link(fresh, path)
    except FileExistsError:
        pass
    finally:
        fresh.unlink()
    return path.read_text().strip()
