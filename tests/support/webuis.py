"""Image engines for the unit tests: the WebUI's double as a process, and what scripted ones answer."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from PIL import Image

from graycat.engines.comfyui import ComfyEngine
from graycat.engines.webui import WebuiEngine
from tests.support.helpers import PATIENCE_S, Valkey
from tests.support.servers import Answer, Handler, Seen, http_server, reply
from tests.support.workers import Worker

API = "/sdapi/v1/"
TXT2IMG, INTERRUPT, SKIP = f"POST {API}txt2img", f"POST {API}interrupt", f"POST {API}skip"
PROGRESS, PROBE = f"GET {API}progress", f"GET {API}progress?skip_current_image=true"


def progress(share: float = 0.0, preview: str | None = None, **state: Any) -> dict[str, Any]:
    """Return what an engine says of the render that it is at."""
    known = {"sampling_step": 0, "sampling_steps": 20, "job_no": 0, "job_count": 1}
    return {"progress": share, "eta_relative": 1.23, "state": known | state, "current_image": preview}


#: What every scripted engine answers to its worker's own questions.
WELL = {
    PROBE: reply(200, progress()),
    PROGRESS: reply(200, progress()),
    f"GET {API}options": reply(200, {"samples_format": "png"}),
    f"GET {API}sd-models": reply(200, [{"title": "one [0123456789]", "model_name": "one"}]),
    INTERRUPT: reply(200, {}),
    SKIP: reply(200, b"null"),
}


def picture(color: str = "red", kind: str = "PNG", size: tuple[int, int] = (8, 8)) -> bytes:
    """Return the file of a small image."""
    file = io.BytesIO()
    Image.new("RGB", size, color).save(file, kind)
    return file.getvalue()


def encoded(image: bytes) -> str:
    """Return a file as base64."""
    return base64.b64encode(image).decode()


def rendered(*images: bytes, info: Any = None, **fields: Any) -> dict[str, Any]:
    """Return an engine's reply with images."""
    return {"images": [encoded(image) for image in images], "parameters": {}, "info": json.dumps(info or {})} | fields


def until_interrupted(*images: bytes) -> tuple[Answer, Answer]:
    """Return answers to a render and to an interrupt; the render goes on until that comes."""
    interrupted = threading.Event()

    def render(handler: Handler) -> None:
        assert interrupted.wait(PATIENCE_S)
        reply(200, rendered(*images))(handler)

    def interrupt(handler: Handler) -> None:
        reply(200, {})(handler)
        interrupted.set()

    return render, interrupt


def let_go(engine: WebuiEngine | ComfyEngine) -> None:
    """Close the connections that an engine's client keeps for later."""
    while engine.client._idle:
        engine.client._idle.pop()[1].close()


@contextmanager
def image_worker_at(broker: Valkey, url: str, seen: Seen | None = None, **changes: Any) -> Iterator[Worker]:
    """Yield a worker whose ready engine listens at ``url``."""
    engine = WebuiEngine("webui", url, start=None)
    worker = Worker(broker, engine, seen or Seen({}), queues=("sd", "sd.batch"), **changes)
    try:
        worker.raise_engine()
        if seen is not None:
            seen.requests.clear()
        yield worker
    finally:
        let_go(engine)
        worker.client.close()


@contextmanager
def image_worker_on(broker: Valkey, answers: dict[str, Answer], **changes: Any) -> Iterator[Worker]:
    """Run a scripted image engine for the block, and yield a worker whose engine it is, ready."""
    with http_server(WELL | answers) as seen, image_worker_at(broker, seen.url, seen, **changes) as worker:
        yield worker


#: As much of a body as a render needs here.
FOX = b'{"prompt": "a fox"}'


def accept(worker: Worker, kind: str = "sd.txt2img", **changes: Any) -> str:
    """Accept an image task; return its id."""
    return worker.accept(kind=kind, **{"mode": "plain", "queue": "sd", "body": FOX, **changes})


def answer_of(worker: Worker, task_id: str) -> tuple[int, Any]:
    """Return status and body of a finished task's answer."""
    status, body = worker.records.events(task_id)[-1].answer()
    return status, json.loads(body)


def stored(worker: Worker, task_id: str) -> list[bytes]:
    """Return a task's images as they are stored."""
    artifacts = worker.runtime.artifacts
    found = [artifacts.get(task_id, known.number) for known in artifacts.describe(task_id)]
    return [image[1] for image in found if image is not None]


def sent(worker: Worker, route: str) -> int:
    """Return how often a scripted engine's route was called."""
    return sum(f"{method} {path}" == route for method, path, _ in worker.seen.requests)
