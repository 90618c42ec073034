"""Work whose steps are those of the control worker too: a batch of images, and a schedule that makes one."""

from __future__ import annotations

import time
from collections.abc import Iterable
from hashlib import sha256

from chaos.work import IMAGE, OWNER, PATIENCE_S, NeverEnds, Work
from graycat.batches.records import batch_id_for_key
from graycat.queue import ids
from tests.support.stack import Stack

#: Images of a batch.
ITEMS = 2
MINUTE_S = 60


class Batch(Work):
    """A batch of images under a key."""

    kind, events, worker = "batch", ("succeeded",), "sd"

    @property
    def batch_id(self) -> str:
        """Return the batch's id."""
        return batch_id_for_key(OWNER, self.name)

    def marks(self) -> list[str]:
        """Return the batch's id too; its tasks are found by their records, which name it."""
        return [*super().marks(), self.batch_id, *item_ids(self.batch_id)]

    def run(self) -> None:
        """Submit it and wait for its end."""
        document = {
            "name": self.name,
            "items": [f"{self.name} item {number}" for number in range(ITEMS)],
            "defaults": IMAGE,
            **self.webhook(),
        }
        answer = self.send("POST", "/batches", document, **{"Idempotency-Key": self.name})
        if answer.status_code not in (200, 201, 202):
            raise NeverEnds(f"{answer.status_code} {answer.text[:200]}")
        self.view = self.poll(f"/batches/{self.batch_id}")

    def expected(self) -> dict[str, tuple[str, ...]]:
        """Each item is one task."""
        return dict.fromkeys(find_item_tasks(self.stack, self.batch_id), ("succeeded",))

    def check(self) -> list[str]:
        """Each item has one file and one line in the manifest."""
        return check_batch(self, self.batch_id, ITEMS)


class Schedule(Work):
    """A schedule with one time that is due: beat ticks, and the control worker makes a batch of it."""

    kind, worker = "schedule", "sd"

    def __init__(self, stack: Stack, name: str, hook: str, patience_s: float = PATIENCE_S) -> None:
        super().__init__(stack, name, hook, patience_s)
        self.nominal = int(time.time()) // MINUTE_S * MINUTE_S
        told = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self.nominal))
        self.batch_id = batch_id_for_key(OWNER, f"schedule/{name}/{told}")

    def marks(self) -> list[str]:
        """Return the batch's id, and what each tick has in it."""
        ticks = ["fire_schedules", "fire-schedules"]
        return [self.name, self.batch_id, *item_ids(self.batch_id), *ticks]

    def run(self) -> None:
        """Make a schedule whose last minute was not fired, and wait for its batch."""
        spec = {"name": self.name, "defaults": IMAGE, "items": [f"{self.name} item"]}
        # Once a day: no other time becomes due meanwhile.
        minute = time.gmtime(self.nominal)
        cron = f"{minute.tm_min} {minute.tm_hour} * * *"
        body = {"name": self.name, "cron": cron, "spec": spec, "missed": "all", "overlap": "allow"}
        self.send("PUT", f"/schedules/{self.name}", body)
        key = f"graycat:schedule:{OWNER}:{self.name}"
        self.stack.redis().hset(key, "mark", self.nominal - MINUTE_S)
        self.wait_until(lambda: self.stack.redis().exists(f"graycat:batch:{self.batch_id}"), "it never fires")
        self.view = self.poll(f"/batches/{self.batch_id}")
        self.send("DELETE", f"/schedules/{self.name}")

    def expected(self) -> dict[str, tuple[str, ...]]:
        """Its one image is one task."""
        return dict.fromkeys(find_item_tasks(self.stack, self.batch_id), ("succeeded",))

    def check(self) -> list[str]:
        """The batch is whole, and the time has fired once."""
        return check_batch(self, self.batch_id, 1)


def item_ids(batch_id: str) -> Iterable[str]:
    """Return the ids of the tasks that the first tries of a batch's items have."""
    for number in range(ITEMS):
        for tries in range(2):
            digest = sha256(f"{batch_id}/{number}/{tries}".encode()).hexdigest()
            yield ids.task_id_for("sd.txt2img", digest[: ids.CHARS])


def find_item_tasks(stack: Stack, batch_id: str) -> list[str]:
    """Return the ids of a batch's tasks."""
    found = []
    for key in stack.redis().scan_iter("graycat:task:*", count=1000):
        if stack.redis().hget(key, "batch") == batch_id:
            found.append(key.rpartition(":")[2])
    return found


def check_batch(work: Work, batch_id: str, items: int) -> list[str]:
    """Return what is wrong with an ended batch: each item has one file and one line, and no part is left."""
    view = work.send("GET", f"/batches/{batch_id}").json()
    folder = work.stack.home / "batches" / str(view.get("folder"))
    lines = (folder / "manifest.jsonl").read_text().splitlines()
    files = sorted(path.name for path in folder.rglob("*") if path.is_file())
    images = [name for name in files if name.endswith(".png")]
    parts = [name for name in files if name.startswith(".")]
    problems = []
    if view.get("state") != "succeeded":
        problems.append(f"{work.name}: the batch is {view.get('state')}: {view.get('reason')}")
    if len(lines) != items or len(images) != items:
        problems.append(f"{work.name}: {len(images)} files and {len(lines)} lines for {items} items")
    if parts:
        problems.append(f"{work.name}: parts of files are left: {parts}")
    return problems
