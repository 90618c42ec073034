"""The routes for files and the socket: sections 6 and 7 of the reference."""

from __future__ import annotations

import json
import mimetypes
import os
import uuid
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from tornado.web import HTTPError, StaticFileHandler
from tornado.websocket import WebSocketHandler

from tests.fakes.comfyui.files import ANNOTATION
from tests.fakes.comfyui.lies import BROKEN_FRAMES, BROKEN_MESSAGES
from tests.fakes.comfyui.routes import Route
from tests.fakes.comfyui.server import Server

#: Shown as a download from some release on.
ACTIVE = {"text/html", "application/xhtml+xml", "text/javascript", "text/css", "image/svg+xml"}


class UploadRoute(Route):
    """``/upload/image``."""

    def post(self) -> None:
        """Keep a file; one with another content under a known name is renamed."""
        files = self.request.files.get("image", [])
        if not files or not files[0].filename:
            self.end(400)
            return
        name, content = files[0].filename, files[0].body
        kind = self.get_body_argument("type", "input")
        folder = self.get_body_argument("subfolder", "", strip=False)
        try:
            path = self.server.folders.inside(kind, folder, name)
        except ValueError:
            self.end(400)
            return
        # A name with a slash fails here, as upstream, unless its folder exists.
        self.server.folders.inside(kind, folder).mkdir(parents=True, exist_ok=True)
        if self.get_body_argument("overwrite", "") not in ("true", "1"):
            path, name = self.free(path, name, content)
        path.write_bytes(content)
        self.reply({"name": name, "subfolder": folder, "type": kind})

    def free(self, path: Path, name: str, content: bytes) -> tuple[Path, str]:
        """Return where a file can be written without changing another."""
        stem, suffix = os.path.splitext(name)
        number = 1
        while path.exists() and path.read_bytes() != content:
            name = f"{stem} ({number}){suffix}"
            path = path.with_name(name)
            number += 1
        return path, name


class ViewRoute(Route, StaticFileHandler):
    """``/view``: ranges, ETag and dates are Tornado's, which are the same on the wire."""

    def initialize(self, server: Server) -> None:  # type: ignore[override]
        """Remember the server; where files lie depends on the query."""
        Route.initialize(self, server)
        StaticFileHandler.initialize(self, str(server.folders.paths["output"]))

    def set_headers(self) -> None:
        """Send what Tornado sends, and no Cache-Control."""
        super().set_headers()
        self.set_header("Content-Disposition", f'filename="{os.path.basename(self.absolute_path or "")}"')

    def get_content_type(self) -> str:
        """Guess by the name; what a browser would run is a download."""
        kind = mimetypes.guess_type(self.absolute_path or "")[0] or "application/octet-stream"
        return "application/octet-stream" if kind in ACTIVE else kind

    def compute_etag(self) -> str | None:
        """Have one for files as they are."""
        if getattr(self, "absolute_path", None) is None:
            return None
        return StaticFileHandler.compute_etag(self)

    async def get(self, *_: Any, include_body: bool = True) -> None:
        """Send a file."""
        name = self.get_query_argument("filename", None, strip=False)
        if name is None:
            self.end(404)
            return
        try:
            path = self.located(name)
        except HTTPError as error:
            self.end(error.status_code)
            return
        if not path.is_file():
            self.end(404)
        elif "preview" in self.request.query_arguments or self.get_query_argument("channel", "") in ("rgb", "a"):
            self.send_again(path)
        else:
            self.root = str(path.parent)
            await super().get(path.name, include_body)

    async def head(self, *_: Any) -> None:
        """Send the headers of a file."""
        await self.get(include_body=False)

    def located(self, name: str) -> Path:
        """Return the file that a query names. Raises HTTPError if it may not be asked for."""
        found = ANNOTATION.match(name)
        kind = found[2] if found else self.get_query_argument("type", "output")
        name = found[1] if found else name
        if not name or name.startswith("/") or ".." in name or kind not in self.server.folders.paths:
            raise HTTPError(400)
        try:
            folder = self.server.folders.inside(kind, self.get_query_argument("subfolder", ""))
        except ValueError:
            raise HTTPError(403) from None
        return folder / os.path.basename(name)

    def send_again(self, path: Path) -> None:
        """Send a picture in another format or with fewer channels; its texts are lost."""
        asked, _, quality = self.get_query_argument("preview", "").partition(";")
        channel = self.get_query_argument("channel", "")
        kind = "PNG"
        if "preview" in self.request.query_arguments:
            kind = "JPEG" if asked == "jpeg" and channel != "a" else "WEBP"
        file = BytesIO()
        with Image.open(path) as image:
            changed = image.convert("RGB")
            if channel == "a" and kind == "PNG":
                changed = image.convert("RGBA").getchannel("A")
            changed.save(file, kind, quality=int(quality) if quality.isdigit() else 90)
        self.set_header("Content-Type", f"image/{kind.lower()}")
        self.set_header("Content-Disposition", f'filename="{path.name}"')
        self.finish(file.getvalue())


class SocketRoute(WebSocketHandler):
    """``/ws``."""

    def initialize(self, server: Server) -> None:
        """Remember the server."""
        self.server = server
        self.client_id = ""
        self.is_first = True

    def prepare(self) -> None:
        """Refuse foreign pages, and all where a proxy passes no sockets on."""
        self.server.seen["GET /ws"] += 1
        if self.server.hub.mode == "refused":
            self.set_status(404)
            self.finish()
        elif Route.is_foreign(self):  # type: ignore[arg-type]
            self.set_status(403)
            self.finish()

    def check_origin(self, _origin: str) -> bool:
        """Leave it to ``prepare``."""
        return True

    def open(self, *_: str, **__: str) -> None:
        """Take the socket in; one that comes back during its prompt hears which node runs."""
        self.set_nodelay(True)
        server, hub = self.server, self.server.hub
        self.client_id = self.get_query_argument("clientId", "") or uuid.uuid4().hex
        hub.add(self.client_id, self)
        hub.greet("status", {"status": server.status(), "sid": self.client_id}, self.client_id)
        if server.client_id == self.client_id and server.last_node_id is not None:
            hub.send("executing", {"node": server.last_node_id}, self.client_id)
        if server.lies.lie == "broken_messages":
            for message in BROKEN_MESSAGES:
                hub.deliver(message, self.client_id)
            for frame in BROKEN_FRAMES:
                hub.deliver(frame, self.client_id)

    def on_message(self, message: str | bytes) -> None:
        """Heed what a client says first, if that is about features."""
        first, self.is_first = self.is_first, False
        if not first or isinstance(message, bytes) or not self.server.habits.client_ids:
            return
        try:
            said = json.loads(message)
        except ValueError:
            return
        if isinstance(said, dict) and said.get("type") == "feature_flags" and self.client_id in self.server.hub.flags:
            self.server.hub.flags[self.client_id] = said.get("data") or {}
            self.server.hub.send("feature_flags", self.server.features(), self.client_id)

    def on_close(self) -> None:
        """Forget the id, whoever has it now."""
        if self.client_id:
            self.server.hub.remove(self.client_id)
