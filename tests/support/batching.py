"""Batches in the unit tests: a batch runner that the test steps itself, and a simulated worker of an image engine."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from graycat.batches.records import BatchRecords
from graycat.batches.runner.runner import BatchRunner
from graycat.errors import GraycatError
from graycat.fleet.reports import WorkerStatus
from graycat.fleet.workers import WorkerRegistry
from graycat.queue.models import Attempt
from graycat.queue.records import TaskRecords
from graycat.settings import Settings
from graycat.storage import open_artifacts
from graycat.storage.artifacts import ArtifactStore
from tests.support.helpers import Stopwatch, Valkey, changed
from tests.support.workers import celery_app

#: Two images of the smallest kind.
TWO: dict[str, Any] = {"name": "two", "items": ["a knight", "a thief"], "defaults": {"steps": 2, "width": 64}}
#: Seconds that a test's batch may take.
END_TIMEOUT_S = 30.0


def make_image(text: str) -> bytes:
    """Return an image that is different for every text."""
    file = BytesIO()
    Image.new("RGB", (8, 8), "#" + f"{hash(text) & 0xFFFFFF:06x}").save(file, "PNG")
    return file.getvalue() + text.encode(errors="backslashreplace")


class Batching:
    """A batch runner with everything that it needs."""

    def __init__(self, broker: Valkey, out: Path, **changes: Any) -> None:
        self.broker = broker
        self.out = out
        self.settings: Settings = changed(broker.settings, batch_dir=str(out), **changes)
        self.client = broker.client
        self.records = TaskRecords(self.client, self.settings)
        self.batches = BatchRecords(self.client, self.settings)
        self.artifacts: ArtifactStore = open_artifacts(self.settings, self.client)
        #: The request bodies of the claimed items, in order.
        self.requests: list[dict[str, Any]] = []
        self.runner = self.new_runner()
        self.report_engines(1)

    def new_runner(self) -> BatchRunner:
        """Return the batch runner of another control worker."""
        return BatchRunner(self.client, self.settings, celery_app(self.broker.settings.home))

    def report_engines(self, count: int, **changes: Any) -> None:
        """Report ``count`` workers of image engines."""
        for number in range(count):
            status = dict[str, Any](
                name=f"sd{number}@here",
                queues=("sd", "sd.batch"),
                engine="a fake",
                engine_state="ready",
                consuming=True,
                slots=1,
                busy=0,
                props="",
            )
            WorkerRegistry(self.client).report(WorkerStatus(**(status | changes)))

    def submit(self, document: dict[str, Any] | None = None, **changes: Any) -> str:
        """Submit a batch of the API token ``tests``; return its id."""
        return self.batches.submit((document or TWO) | changes, "tests")[0]

    def state(self, batch_id: str) -> str:
        """Return a batch's state."""
        return str(self.batches.get(batch_id)["state"])

    def progress(self, batch_id: str) -> dict[str, int]:
        """Return how many of a batch's items are in each state that has any."""
        return {state: count for state, count in self.batches.get(batch_id)["progress"].items() if count}

    def run_steps(self, count: int = 6) -> None:
        """Step the runner ``count`` times."""
        for _ in range(count):
            self.runner.step()

    def claim_next(self, queue: str = "sd.batch") -> Attempt | None:
        """Claim the next task of a queue, as a worker does; None if there is none."""
        while (message := self.client.rpop(queue)) is not None:
            claimed = self.records.claim(json.loads(message)["headers"]["id"], "sd0@here")
            if isinstance(claimed, Attempt):
                self.requests.append(json.loads(claimed.body))
                return claimed
        return None

    def finish(self, attempt: Attempt, data: bytes = b"") -> None:
        """End an attempt as a worker does whose engine has made an image."""
        body = json.loads(attempt.body)
        image = data or make_image(f"{body['prompt']} {body['seed']}")
        self.artifacts.put(attempt.task_id, 0, image, "image/png", attempt.owner)
        info = {"seed": body["seed"], "sd_model_name": "fake", "sd_model_hash": "abc", "sampler_name": "Euler"}
        answer = {"images": [{"artifact": 0}], "parameters": {}, "info": json.dumps(info)}
        assert self.records.succeed(attempt, 200, json.dumps(answer).encode())

    def fail(self, attempt: Attempt, error: GraycatError) -> None:
        """End an attempt as a worker does whose engine has failed."""
        assert self.records.fail(attempt, error)

    def render(self) -> bool:
        """Run one task as a worker does; return False if none waits."""
        attempt = self.claim_next()
        if attempt is not None:
            self.finish(attempt)
        return attempt is not None

    def run_to_end(self, batch_id: str) -> str:
        """Step and render until a batch has ended and is not live any more; return its state."""
        clock = Stopwatch()
        while clock.seconds < END_TIMEOUT_S:
            self.report_engines(1)
            self.runner.step()
            self.render()
            if self.client.zscore("graycat:batches:live", batch_id) is None:
                return self.state(batch_id)
        raise AssertionError(f"not at its end: {self.batches.get(batch_id)}")

    def folder(self, batch_id: str) -> Path:
        """Return the folder of a batch."""
        return self.out / str(self.batches.get(batch_id)["folder"])

    def files(self, batch_id: str) -> list[Path]:
        """Return a batch's images."""
        return sorted(self.folder(batch_id).glob("*.png"))

    def manifest(self, batch_id: str) -> list[dict[str, Any]]:
        """Return the lines of a batch's manifest as the file has them."""
        text = (self.folder(batch_id) / "manifest.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]
