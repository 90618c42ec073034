"""The routes of the packaged llama.cpp, found in its binary and then asked for.

Paths lie in the binary side by side, as the server's ``main`` registers them (llama.cpp's tools/server/server.cpp). A
linker keeps a path that another one ends with as a part of that, so each end of a path may be one, too.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.support.stack import Client

#: A route that every build has, and how far around it the others lie.
KNOWN, AROUND_BYTES = b"/v1/chat/completions", 4096
METHODS = ("GET", "POST", "DELETE")
_PATH = re.compile(rb"(?<=\0)/[a-z0-9][a-z0-9_/:-]*(?=\0)")


def paths_in_binary() -> set[str]:
    """Return all that may be a path of the packaged engine."""
    spec = find_spec("xllamacpp.xllamacpp")
    assert spec is not None
    assert spec.origin is not None
    data = Path(spec.origin).read_bytes()
    places = [found.start() for found in re.finditer(re.escape(b"\0" + KNOWN + b"\0"), data)]
    assert places, "the binary has its routes in another form"
    paths: set[str] = set()
    for place in places:
        for path in _PATH.findall(data[max(place - AROUND_BYTES, 0) : place + AROUND_BYTES]):
            parts = path.decode().split("/")[1:]
            paths.update("/" + "/".join(parts[start:]) for start in range(len(parts)))
    return paths


def routes_of(engine: Client, paths: set[str]) -> dict[str, set[str]]:
    """Return which of some paths an engine knows, with their methods."""
    routes: dict[str, set[str]] = {}
    for path in sorted(paths):
        for method in METHODS:
            body: dict[str, Any] | None = {} if method == "POST" else None
            answer = engine.request(method, path.replace(":id_slot", "0"), json=body)
            if answer.status_code != 404 or "File Not Found" not in answer.text:
                routes.setdefault(path, set()).add(method)
    return routes
