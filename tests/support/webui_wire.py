"""A WebUI process as the wire tests see it: the placeholder renderer or the test double."""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import requests
from PIL import Image

from tests.support.processes import Output

ROOT = Path(__file__).resolve().parents[2]
PLACEHOLDER = "graycat.engines.placeholder"
DOUBLE = "tests.fakes.webui"
PREFIX = "/sdapi/v1"

#: Seconds that anything gets which takes milliseconds on an idle machine.
PATIENCE_S = 60.0


class WebUI:
    """One running process."""

    def __init__(self, process: subprocess.Popen[str], output: Output, port: int) -> None:
        self.process, self.output, self.port = process, output, port
        self.url = f"http://127.0.0.1:{port}"
        self.session = requests.Session()

    def call(self, method: str, name: str, body: Any = None, **options: Any) -> requests.Response:
        """Call a route by its name without the prefix, or by a whole path; ``body`` is sent as JSON if given."""
        path = name if name.startswith("/") else f"{PREFIX}/{name}"
        if body is not None:
            options["json"] = body
        return self.session.request(method, self.url + path, timeout=PATIENCE_S, allow_redirects=False, **options)

    def get(self, name: str, **options: Any) -> Any:
        """Return the JSON of a list."""
        response = self.call("GET", name, **options)
        assert response.status_code == 200, response.text
        return response.json()

    def post(self, name: str, body: Any = None, **fields: Any) -> Any:
        """Return the JSON that a call with this body, or with these fields, is answered with."""
        response = self.call("POST", name, fields or body)
        assert response.status_code == 200, response.text
        return response.json()

    def progress(self) -> Any:
        """Return the state of the running job, without a picture."""
        return self.get("progress", params={"skip_current_image": "true"})


@contextmanager
def running(module: str, *options: str) -> Iterator[WebUI]:
    """Run a process on a port of its own choice until the block ends."""
    command = [sys.executable, "-m", module, "--port", "0", *options]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    output = Output(process.stdout)
    try:
        output.wait_for("ready at", PATIENCE_S)
        line = next(line for line in output.text.splitlines() if "ready at" in line)
        webui = WebUI(process, output, int(line.rpartition(":")[2]))
        with webui.session:
            yield webui
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
        output.close(PATIENCE_S)


def image_of(encoded: str) -> Image.Image:
    """Return a base64 image, decoded to the last pixel."""
    image = Image.open(BytesIO(base64.b64decode(encoded, validate=True)))
    image.load()
    return image


def png_of(image: Image.Image) -> str:
    """Return an image as a base64 PNG."""
    file = BytesIO()
    image.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def red(width: int = 64, height: int = 64) -> str:
    """Return a red image as a base64 PNG."""
    return png_of(Image.new("RGB", (width, height), "red"))
