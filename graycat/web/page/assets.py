"""The files of the page: scripts, a stylesheet, an icon.

Their address has a hash of them all, so caches keep them for good. The scripts are modules that import each other by
relative addresses, so they are together in one folder.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from graycat.web.prebuilt import PrebuiltAnswer

FOLDER = Path(__file__).parent / "static"
CONTENT_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
#: An address stands for one content, so it is never asked for again.
FOREVER = "public, max-age=31536000, immutable"


@cache
def load() -> tuple[str, dict[str, PrebuiltAnswer]]:
    """Return the hash of all files, and each of them by its name."""
    digest = hashlib.sha256()
    files = {}
    for path in sorted(FOLDER.iterdir()):
        if path.suffix not in CONTENT_TYPES:
            continue
        body = path.read_bytes()
        digest.update(f"{path.name}\0{len(body)}\0".encode() + body)
        files[path.name] = PrebuiltAnswer(body, CONTENT_TYPES[path.suffix], FOREVER)
    return digest.hexdigest()[:16], files
