"""Before a batch runs: its folder, its prompts, its plan, and what of it is there already."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from graycat.batches import plan, spec
from graycat.batches.items import BatchItems, Known
from graycat.batches.live import LiveBatch, LiveBatches
from graycat.batches.output import Output, folder_of
from graycat.batches.runner.prompt_writer import MAX_TRIES, NoPrompts, PromptWriter
from graycat.batches.spec import Spec
from graycat.batches.spec.windows import zone
from graycat.batches.states import DONE, WAITING
from graycat.errors import GraycatError
from graycat.settings import Settings

logger = logging.getLogger(__name__)

#: Seconds that one step spends on a batch: others wait for it.
SLICE_S = 0.2


class Unusable(Exception):
    """Raised where a batch cannot be prepared, now or ever; its text is for the batch's owner."""


class Preparer:
    """Takes a batch a step further each time it is called. Every step may be done again after a kill."""

    def __init__(self, settings: Settings, heads: LiveBatches, items: BatchItems, writer: PromptWriter) -> None:
        self._settings = settings
        self._heads = heads
        self._items = items
        self._writer = writer

    def step(self, head: LiveBatch, open_output: Callable[[LiveBatch, str], Output]) -> bool:
        """Prepare a batch further; True where it may run. Raises Unusable, OutputUnavailable, BrokerUnavailable."""
        folder = head.folder or self._folder(head)
        if other := self._heads.claim_folder(head, folder):
            self._wait(head, f"waits for the batch {other}, which writes to the same folder")
            return False
        if not head.folder:
            self._heads.note(head.id, {"folder": folder})
        output = open_output(head, folder)
        if not head.planned and not self._planned(head, output):
            return False
        if head.again:
            if any(self._items.move_all(head.id, (state,), WAITING) for state in head.again.split(",")):
                return False
            self._heads.note(head.id, {"again": ""})
        return self._verified(head, output)

    def _wait(self, head: LiveBatch, reason: str) -> None:
        if head.reason != reason:
            self._heads.note(head.id, {"reason": reason})

    @staticmethod
    def _folder(head: LiveBatch) -> str:
        at = datetime.fromtimestamp(head.submitted_ms / 1000, UTC).astimezone(zone(head.terms.timezone))
        values = {"batch": head.id, "name": head.name, "key": head.key, "schedule": head.schedule}
        return folder_of(head.owner, head.terms.folder, values | {"date": at.date().isoformat()})

    def _planned(self, head: LiveBatch, output: Output) -> bool:
        """Write the plan; False where its prompts are still to come."""
        document = self._heads.document(head.id)
        try:
            wanted = spec.parse(document, self._settings)
        except GraycatError as error:
            raise Unusable(f"the spec is refused here: {error}") from None
        about = output.about()
        if about and about.get("images") != wanted.digest:
            raise Unusable("its folder holds another batch: choose another folder, or move that one away")
        # A batch of the same spec that began here goes on: its random seeds and its prompts are these.
        entropy = str(about.get("entropy") or head.entropy)
        prompts = about.get("prompts") or json.loads(head.prompts or "[]")
        if wanted.ask and not self._asked(head, wanted, prompts):
            return False
        items = plan.expand(wanted, str(about.get("batch") or head.id), entropy, prompts)
        output.tell(_about(head, wanted, str(about.get("batch") or head.id), entropy, prompts))
        self._items.plan(head.id, items)
        work = sum(item.work for item in items)
        self._heads.note(head.id, {"planned": 1, "total": len(items), "work": work, "entropy": entropy, "reason": ""})
        return False

    def _asked(self, head: LiveBatch, wanted: Spec, prompts: list[str]) -> bool:
        ask = wanted.ask
        if ask is None or len(prompts) >= ask.count:
            return True
        self._wait(head, "its prompts are being written")
        kept = json.loads(head.prompts or "[]")
        try:
            more = self._writer.step(head, ask, kept, head.asked)
        except NoPrompts:
            raise Unusable(f"the text engine wrote no usable prompts, {MAX_TRIES} times") from None
        if more is not None:
            fields: dict[str, str | int | float] = {"prompts": json.dumps([*kept, *more])}
            self._heads.note(head.id, fields | {"asked": 0 if more else head.asked + 1})
        return False

    def _verified(self, head: LiveBatch, output: Output) -> bool:
        """Compare what is there with the manifest, some items at a time; False where more are left."""
        if not head.verify:
            return True
        number, until = head.verify, time.monotonic() + SLICE_S
        counts = self._items.counts(head.id)
        if not output.lines and not counts[DONE]:
            number = head.total + 1
        while number <= head.total and time.monotonic() < until:
            numbers = range(number, min(number + 20, head.total + 1))
            planned, known = self._items.planned(head.id, numbers), self._items.known(head.id, numbers)
            for place in numbers:
                self._verify(head, output, planned[place], known[place])
            number = numbers[-1] + 1
        self._heads.note(head.id, {"verify": number if number <= head.total else ""})
        return number > head.total

    def _verify(self, head: LiveBatch, output: Output, item: plan.Item, known: Known) -> None:
        if known.state not in (WAITING, DONE):
            return
        line = known.line if known.state == DONE else output.lines.get(item.number)
        good = line is not None and plan.digest_of(line["request"]) == item.digest and output.is_good(line)
        if good and line is not None:
            if known.state == WAITING:
                attempts = max(known.attempts, int(line.get("attempts") or 1))
                self._items.move(head.id, item.number, known, known.changed(state=DONE, line=line, attempts=attempts))
            elif output.lines.get(item.number) != line:
                output.note([line])
        elif known.state == DONE:
            logger.warning("a batch's file is damaged", extra={"batch_id": head.id, "item": item.number})
            self._items.move(head.id, item.number, known, known.changed(state=WAITING, line=None, failures=0))


def _about(head: LiveBatch, wanted: Spec, batch: str, entropy: str, prompts: list[str]) -> dict[str, Any]:
    document = dict(wanted.document)
    if isinstance(document.get("webhook"), dict):
        document["webhook"] = {name: value for name, value in document["webhook"].items() if name != "secret"}
    return {
        "batch": batch,
        "name": head.name,
        "owner": head.owner,
        "submitted_ms": head.submitted_ms,
        "total": wanted.total,
        "images": wanted.digest,
        "entropy": entropy,
        "prompts": prompts,
        "spec": document,
    }
