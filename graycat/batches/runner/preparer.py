"""Prepares a batch before it runs: its folder, its prompts, its plan, and the files that are in the folder already."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from graycat.batches import plan, spec
from graycat.batches.items import BatchItems, ItemRecord
from graycat.batches.live import LiveBatch, LiveBatches
from graycat.batches.output import ManifestEntry, Output, batch_folder
from graycat.batches.runner.prompt_writer import MAX_TRIES, PromptsNotWritten, PromptWriter
from graycat.batches.spec import Spec
from graycat.batches.spec.images import MAX_SEED, PromptRequest
from graycat.batches.states import DONE, WAITING
from graycat.bounds.timezones import load_timezone
from graycat.errors import GraycatError
from graycat.images.habits import SAFE_SEEDS
from graycat.settings import Settings

logger = logging.getLogger(__name__)

#: Seconds that one step may spend on verifying a batch, because other batches wait meanwhile.
VERIFY_SLICE_S = 0.2
#: Items that are verified between two looks at the clock.
VERIFY_CHUNK_ITEMS = 20


class BatchNotPreparable(Exception):
    """Raised if a batch can never be prepared. Its text is shown to the batch's owner."""


class Preparer:
    """Prepares batches, one step at each call. Every step can be repeated after a kill."""

    def __init__(self, settings: Settings, live_batches: LiveBatches, items: BatchItems, writer: PromptWriter) -> None:
        self._settings = settings
        self._live_batches = live_batches
        self._items = items
        self._writer = writer

    def step(self, batch: LiveBatch, open_output: Callable[[LiveBatch, str], Output]) -> bool:
        """Do the next step of a batch's preparation; return whether the batch may run now.

        Raises BatchNotPreparable, OutputUnavailable, BrokerUnavailable.
        """
        folder = batch.folder or _choose_folder(batch)
        other = self._live_batches.claim_folder(batch, folder)
        if other:
            self._set_reason(batch, f"waits for the batch {other}, which writes to the same folder")
            return False
        if not batch.folder:
            self._live_batches.update_fields(batch.id, {"folder": folder})

        output = open_output(batch, folder)
        if not batch.planned:
            self._plan(batch, output)
            return False
        if batch.states_to_retry:
            # Some items at a time; the states are forgotten once no item is left in them.
            for state in batch.states_to_retry:
                if self._items.move_all(batch.id, (state,), WAITING):
                    return False
            self._live_batches.update_fields(batch.id, {"again": ""})
        return self._verify_some(batch, output)

    def _set_reason(self, batch: LiveBatch, reason: str) -> None:
        if batch.reason != reason:
            self._live_batches.update_fields(batch.id, {"reason": reason})

    def _plan(self, batch: LiveBatch, output: Output) -> None:
        """Write the batch's plan and ``batch.json``, once all prompts are there."""
        try:
            batch_spec = spec.parse(self._live_batches.load_document(batch.id), self._settings, is_accepted=True)
        except GraycatError as error:
            raise BatchNotPreparable(f"the spec is refused here: {error}") from None
        info = output.read_info()
        if info and info.get("images") != batch_spec.digest:
            raise BatchNotPreparable("its folder holds another batch: choose another folder, or move that one away")

        # If a batch with the same images has begun in this folder, this one continues it with its seeds and prompts.
        first_batch_id = str(info.get("batch") or batch.id)
        entropy = str(info.get("entropy") or batch.entropy)
        prompts = info.get("prompts") or batch.prompts
        request = batch_spec.prompt_request
        if request is not None and len(prompts) < request.count:
            self._write_prompts(batch, request)
            return

        seeds_below = SAFE_SEEDS
        if info:
            # Folders of earlier releases do not tell: their seeds have 32 bits.
            seeds_below = int(info.get("seeds_below", MAX_SEED + 1))
        items = plan.expand(batch_spec, first_batch_id, entropy, prompts, seeds_below)
        info = _build_info(batch, batch_spec, first_batch_id, entropy, prompts)
        output.write_info(info | {"seeds_below": seeds_below})
        self._items.write_plan(batch.id, items)
        work = sum(item.work for item in items)
        self._live_batches.update_fields(
            batch.id, {"planned": 1, "total": len(items), "work": work, "entropy": entropy, "reason": ""}
        )

    def _write_prompts(self, batch: LiveBatch, request: PromptRequest) -> None:
        """Have the text engine write more prompts; add those that it has written since the last step."""
        self._set_reason(batch, "its prompts are being written")
        try:
            new_prompts = self._writer.step(batch, request, batch.prompts, batch.useless_answers)
        except PromptsNotWritten:
            raise BatchNotPreparable(
                f"the text engine wrote {len(batch.prompts)} of {request.count} prompts, and then no usable ones, "
                f"{MAX_TRIES} times: ask in other words, or name a larger model in 'prompts.model'"
            ) from None
        if new_prompts is None:
            return
        useless_answers = 0 if new_prompts else batch.useless_answers + 1
        all_prompts = [*batch.prompts, *new_prompts]
        self._live_batches.update_fields(batch.id, {"prompts": json.dumps(all_prompts), "asked": useless_answers})

    def _verify_some(self, batch: LiveBatch, output: Output) -> bool:
        """Compare files with the manifest for VERIFY_SLICE_S; return whether all items are verified."""
        if not batch.next_to_verify:
            return True
        number = batch.next_to_verify
        if not output.entries and not self._items.count_by_state(batch.id)[DONE]:
            # There is no file to verify.
            number = batch.total + 1

        until = time.monotonic() + VERIFY_SLICE_S
        while number <= batch.total and time.monotonic() < until:
            numbers = range(number, min(number + VERIFY_CHUNK_ITEMS, batch.total + 1))
            items = self._items.load_plan(batch.id, numbers)
            records = self._items.load_records(batch.id, numbers)
            for item_number in numbers:
                self._verify(batch, output, items[item_number], records[item_number])
            number = numbers[-1] + 1

        done = number > batch.total
        self._live_batches.update_fields(batch.id, {"verify": "" if done else number})
        return done

    def _verify(self, batch: LiveBatch, output: Output, item: plan.Item, record: ItemRecord) -> None:
        """Verify one item: one whose file is intact becomes done, one whose file is damaged is made again."""
        if record.state not in (WAITING, DONE):
            return
        in_manifest = output.entries.get(item.number)
        entry = record.entry if record.state == DONE else in_manifest
        if entry is not None and _is_of(entry, item) and output.is_intact(entry):
            if record.state == WAITING:
                attempts = max(record.attempts, int(entry.get("attempts") or 1))
                new = replace(record, state=DONE, entry=entry, attempts=attempts)
                self._items.move(batch.id, item.number, record, new)
            elif in_manifest != entry:
                output.add_entries([entry])
        elif record.state == DONE:
            logger.warning("a batch's file is damaged", extra={"batch_id": batch.id, "item": item.number})
            self._items.move(batch.id, item.number, record, replace(record, state=WAITING, entry=None, failures=0))


def _choose_folder(batch: LiveBatch) -> str:
    """Return the folder of a batch, from the pattern in its options."""
    submitted = datetime.fromtimestamp(batch.submitted_ms / 1000, UTC)
    values = {
        "batch": batch.id,
        "name": batch.name,
        "key": batch.key,
        "schedule": batch.schedule,
        "date": submitted.astimezone(load_timezone(batch.options.timezone)).date().isoformat(),
    }
    return batch_folder(batch.owner, batch.options.folder, values)


def _build_info(
    batch: LiveBatch, batch_spec: Spec, first_batch_id: str, entropy: str, prompts: list[str]
) -> dict[str, Any]:
    """Return the content of ``batch.json``, without the webhook's secret."""
    document = dict(batch_spec.document)
    if isinstance(document.get("webhook"), dict):
        document["webhook"] = {name: value for name, value in document["webhook"].items() if name != "secret"}
    return {
        "batch": first_batch_id,
        "name": batch.name,
        "owner": batch.owner,
        "submitted_ms": batch.submitted_ms,
        "total": batch_spec.total,
        "images": batch_spec.digest,
        "entropy": entropy,
        "prompts": prompts,
        "spec": document,
    }


def _is_of(entry: ManifestEntry, item: plan.Item) -> bool:
    """Return whether an entry of the manifest is of an item's image.

    Earlier releases kept in requests, and in the entries, what only the names of files need.
    """
    request = entry["request"]
    if isinstance(request, dict):
        request = {name: value for name, value in request.items() if name in item.request}
    return plan.digest_request(request) == item.digest
