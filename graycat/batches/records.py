"""Batches as their owners see them: submit, read, pause, resume, cancel, retry."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

from graycat.batches import spec
from graycat.batches.errors import BatchConflict, BatchNotFound, TooManyBatches, WrongBatchState
from graycat.batches.forecast import BatchForecaster, Estimate
from graycat.batches.items import CHUNK_ITEMS, ItemRecord
from graycat.batches.plan import Item
from graycat.batches.spec import Spec
from graycat.batches.spec.options import BatchOptions
from graycat.batches.states import (
    CANCELLED,
    DONE,
    ENDED,
    FAILED,
    ITEM_STATES,
    UNFINISHED_ITEM_STATES,
    WAITING,
    part_keys,
)
from graycat.batches.throughput import ThroughputStats
from graycat.bounds.stored import parse_json
from graycat.broker.client import broker_errors
from graycat.broker.keys import BATCHES, LIVE_BATCHES, batch_key, batch_part_key, owner_batches_key
from graycat.broker.protocol import Broker
from graycat.broker.scripts import Scripts
from graycat.errors import BrokerUnavailable
from graycat.loops.unexpected import guarded
from graycat.queue.stored import OVERHEAD_BYTES, no_room, stored_limits
from graycat.settings import Settings

#: Numeric fields of a record that its owner sees.
NUMBER_FIELDS = ("total", "submitted_ms", "started_ms", "finished_ms", "deadline_ms")
#: Text fields of a record that its owner sees.
TEXT_FIELDS = ("name", "owner", "key", "schedule", "state", "reason", "folder", "store")
#: Options that the owner sees.
OPTION_FIELDS = ("window", "timezone", "max_gpus", "max_failures", "deadline_s")
_VIEW_FIELDS = (*TEXT_FIELDS, *NUMBER_FIELDS, "terms", "work", "gpu_ms")

Row = dict[str, Any]
Rows = list[Row]


class BatchRecords:
    """The batches in the broker. Every method raises BrokerUnavailable; those that take an id raise BatchNotFound.

    ``owner`` is the name of an API token; None stands for all owners.
    """

    def __init__(self, client: Broker, settings: Settings) -> None:
        self._client = client
        self._settings = settings
        self.throughput = ThroughputStats(client)
        self.forecaster = BatchForecaster(client, self.throughput)
        self._scripts = Scripts(client, Path(__file__).parent / "lua", ("create", "set_state"))

    def submit(
        self,
        document: Mapping[str, Any] | Spec,
        owner: str,
        key: str = "",
        schedule: str = "",
        *,
        token_max_pixels: int | None = None,
    ) -> tuple[str, bool]:
        """Accept a batch; return its id and whether it is new. The same owner and key mean the same batch.

        ``document`` is checked here, unless it is a Spec already. Raises InvalidBatch, TooManyBatches,
        StoredBytesExceeded, BrokerFull, and BatchConflict if the key belongs to a batch with another spec.
        """
        batch_spec = document
        if not isinstance(batch_spec, Spec):
            batch_spec = spec.parse(batch_spec, self._settings, token_max_pixels)
        batch_id = batch_id_for_key(owner, key) if key else uuid4().hex[:16]
        digest = spec.digest_document(batch_spec.document)
        options = batch_spec.options
        fields: Row = {
            "name": batch_spec.name,
            "owner": owner,
            "key": key,
            "schedule": schedule,
            "document": json.dumps(batch_spec.document),
            "digest": digest,
            "terms": options.to_json(),
            "store": options.store,
            "total": batch_spec.total,
            # Random seeds are derived from it, unless the output folder has the entropy of an earlier batch.
            "entropy": secrets.token_hex(8),
            "verify": 1,
        }
        if options.webhook:
            fields["webhook"] = options.webhook

        names = [batch_key(batch_id), LIVE_BATCHES, BATCHES, owner_batches_key(owner)]
        charged = (owner, len(fields["document"]) + _plan_bytes(batch_spec), *stored_limits(self._settings))
        result = self._run("create", names, (batch_id, self._settings.batch_max_live, *charged, *_flatten(fields)))
        if isinstance(result, bytes):
            raise no_room(result, owner, self._settings)
        if result == -1:
            raise TooManyBatches(self._settings.batch_max_live)
        if result == 0 and self._read_fields(batch_id, ("digest",))["digest"] != digest:
            raise BatchConflict
        return batch_id, result == 1

    def get(self, batch_id: str, owner: str | None = None) -> Row:
        """Return a view of a batch: its fields, ``progress`` (items by state), ``eta_s``, ``gpu_s`` so far."""
        (row,) = self._load_rows([batch_id])
        view = self._read_view(batch_id, row, owner)
        if view is None:
            raise BatchNotFound
        return view

    def list(self, owner: str | None = None, count: int = 100, offset: int = 0) -> Rows:
        """Return views of an owner's batches, newest first."""
        index = BATCHES if owner is None else owner_batches_key(owner)
        with broker_errors():
            ids = self._client.zrevrange(index, offset, offset + count - 1)
        return self._list_views(ids, owner)

    def list_live(self, count: int = 100) -> Rows:
        """Return views of batches that have not ended, in the order of their turns."""
        with broker_errors():
            ids = self._client.zrange(LIVE_BATCHES, 0, count - 1)
        return self._list_views(ids, None)

    def load_document(self, batch_id: str, owner: str | None = None) -> Row:
        """Return the spec of a batch as its caller wrote it."""
        document: Row = parse_json(self._read_fields(batch_id, ("document",), owner)["document"])
        return document

    def list_items(
        self, batch_id: str, offset: int = 0, count: int = 100, owner: str | None = None, state: str = ""
    ) -> Rows:
        """Return views of items, ordered by number; none before the batch is planned. ``state``: only those in it.

        Each has number, state, prompt, seed, attempts, task_id, file, sha256, error and times.
        """
        total = int(self._read_fields(batch_id, ("total",), owner)["total"])
        with broker_errors():
            if state:
                found = self._client.zrange(batch_part_key(batch_id, state), offset, offset + count - 1)
                numbers = [int(number) for number in found]
            else:
                numbers = list(range(offset + 1, min(offset + count, total) + 1))
            if not numbers:
                return []
            plan = self._client.hmget(batch_part_key(batch_id, "plan"), numbers)
            records = self._client.hmget(batch_part_key(batch_id, "items"), numbers)

        views = []
        for item, record in zip(plan, records, strict=True):
            with guarded("batch items"):
                if item is not None:
                    views.append(_view_item(Item.from_json(item), ItemRecord.from_json(record)))
        return views

    def get_item(self, batch_id: str, number: int, owner: str | None = None) -> Row | None:
        """Return the view of one item; None if there is no such item."""
        if number < 1:
            return None
        items = self.list_items(batch_id, number - 1, 1, owner)
        return items[0] if items else None

    def manifest_lines(self, batch_id: str, owner: str | None = None) -> Iterable[str]:
        """Yield the lines of the manifest so far, ordered by item number."""
        total = int(self._read_fields(batch_id, ("total",), owner)["total"])
        for offset in range(0, total, CHUNK_ITEMS):
            numbers = range(offset + 1, offset + CHUNK_ITEMS + 1)
            with broker_errors():
                records = self._client.hmget(batch_part_key(batch_id, "items"), numbers)
            for text in records:
                record = ItemRecord()
                with guarded("batch items"):
                    record = ItemRecord.from_json(text)
                if record.state == DONE:
                    yield json.dumps(record.entry)

    def pause(self, batch_id: str, owner: str | None = None) -> Row:
        """Pause a batch: it starts no more items, and running items are finished. Raises WrongBatchState."""
        fields = {"reason": "paused by its owner", "paused_by": "owner"}
        return self._act("be paused", batch_id, owner, "queued running paused", "paused", fields)

    def resume(self, batch_id: str, owner: str | None = None) -> Row:
        """Resume a batch that is paused or has ended. Its files are verified first.

        If the batch had ended, missing and damaged images are made again. Raises WrongBatchState while it runs.
        """
        return self._restart("be resumed", batch_id, owner, (CANCELLED,))

    def retry_failed(self, batch_id: str, owner: str | None = None) -> Row:
        """Make the failed items of a batch again. It may be in any state."""
        return self._restart("try its failed items again", batch_id, owner, (FAILED, CANCELLED), "running queued")

    def cancel(self, batch_id: str, owner: str | None = None) -> Row:
        """Cancel a batch. Its finished images stay. Does nothing if it has ended."""
        fields = {"reason": "cancelled by its owner", "finished_ms": "NOW", "paused_by": ""}
        self._check_owner(batch_id, owner)
        self.change_state(batch_id, "queued running paused", "cancelled", fields)
        return self.get(batch_id, owner)

    def end(self, batch_id: str, reason: str) -> bool:
        """Cancel a batch for a reason that its owner reads; False if it has ended. Raises BatchNotFound."""
        fields = {"reason": reason, "finished_ms": "NOW", "paused_by": ""}
        allowed = "queued running paused"
        return self.change_state(batch_id, allowed, "cancelled", fields) in allowed.split()

    def _restart(
        self, action: str, batch_id: str, owner: str | None, states_to_retry: tuple[str, ...], also_allowed: str = ""
    ) -> Row:
        """Queue a batch again; its items in ``states_to_retry`` become waiting."""
        fields = {
            "reason": "",
            "paused_by": "",
            "finished_ms": "",
            "verify": 1,
            "again": ",".join(states_to_retry),
            "started_from_ms": "NOW",
        }
        allowed = f"paused succeeded failed cancelled {also_allowed}"
        return self._act(action, batch_id, owner, allowed, "queued", fields)

    def _act(
        self, action: str, batch_id: str, owner: str | None, allowed: str, state: str, fields: Mapping[str, Any]
    ) -> Row:
        self._check_owner(batch_id, owner)
        old_state = self.change_state(batch_id, allowed, state, fields)
        if old_state not in allowed.split():
            raise WrongBatchState(action, old_state)
        return self.get(batch_id, owner)

    def change_state(self, batch_id: str, allowed: str, state: str, fields: Mapping[str, Any]) -> str:
        """Change a batch's state if it is one of ``allowed`` (separated by blanks); return the old state.

        ``fields`` are written with the state: '' deletes a field, and NOW stands for the broker's time in milliseconds.
        """
        names = [batch_key(batch_id), LIVE_BATCHES, *part_keys(batch_id)]
        old_state = self._run("set_state", names, (batch_id, allowed, state, *_flatten(fields))).decode()
        if not old_state:
            raise BatchNotFound
        return str(old_state)

    def _check_owner(self, batch_id: str, owner: str | None) -> None:
        self._read_fields(batch_id, (), owner)

    def _read_fields(self, batch_id: str, names: tuple[str, ...], owner: str | None = None) -> dict[str, str]:
        with broker_errors():
            batch_owner, *values = self._client.hmget(batch_key(batch_id), ("owner", *names))
        if batch_owner is None or (owner is not None and batch_owner.decode() != owner):
            raise BatchNotFound
        return {name: (value or b"").decode() for name, value in zip(names, values, strict=True)}

    def _list_views(self, ids: Sequence[bytes], owner: str | None) -> Rows:
        """Return views of those of the batches that exist and belong to the owner; one that is damaged is left out."""
        batch_ids = [batch_id.decode(errors="backslashreplace") for batch_id in ids]
        views = []
        for batch_id, row in zip(batch_ids, self._load_rows(batch_ids), strict=True):
            with guarded("batches", let_through=(BrokerUnavailable,)):
                view = self._read_view(batch_id, row, owner)
                if view is not None:
                    views.append(view)
        return views

    def _load_rows(self, batch_ids: Sequence[str]) -> Sequence[Sequence[Any]]:
        """Return for each batch what its view needs: the fields of its record, and the number of items by state.

        A reply may be an error.
        """
        with broker_errors(), self._client.pipeline(transaction=False) as pipe:
            for batch_id in batch_ids:
                pipe.hmget(batch_key(batch_id), _VIEW_FIELDS)
                for state in ITEM_STATES:
                    pipe.zcard(batch_part_key(batch_id, state))
            replies = pipe.execute(raise_on_error=False)
        length = 1 + len(ITEM_STATES)
        return [replies[start : start + length] for start in range(0, len(replies), length)]

    def _read_view(self, batch_id: str, row: Sequence[Any], owner: str | None) -> Row | None:
        """Return the view of a batch; None if it does not exist, or belongs to another owner."""
        with broker_errors():
            for reply in row:
                if isinstance(reply, Exception):
                    raise reply
        fields = dict(zip(_VIEW_FIELDS, row[0], strict=True))
        counts = dict(zip(ITEM_STATES, row[1:], strict=True))
        if fields["name"] is None or (owner is not None and (fields["owner"] or b"").decode() != owner):
            return None
        return self._view(batch_id, fields, counts)

    def _view(self, batch_id: str, fields: Mapping[str, bytes | None], counts: dict[str, int]) -> Row:
        view: Row = {"id": batch_id}
        for name in TEXT_FIELDS:
            view[name] = (fields[name] or b"").decode()
        for name in NUMBER_FIELDS:
            value = fields[name]
            view[name] = int(value) if value else None

        if not any(counts.values()):
            # It is not planned yet.
            counts[WAITING] = view["total"]
        view["progress"] = counts

        options = parse_json(fields["terms"] or b"{}")
        for name in OPTION_FIELDS:
            view[name] = options.get(name)
        view["gpu_s"] = round(int(fields["gpu_ms"] or 0) / 1000, 3)
        view["eta_s"] = None
        if view["state"] not in ENDED:
            found = self._estimate(batch_id, fields, view)
            view["eta_s"] = found.eta_s
            if found.eta_s is None:
                view["eta_reason"] = found.reason
        return view

    def _estimate(self, batch_id: str, fields: Mapping[str, bytes | None], view: Row) -> Estimate:
        """Return in how many seconds a batch that has not ended is done, or why that is not known."""
        if view["state"] == "paused":
            return Estimate(None, "the batch is paused")
        unfinished = sum(view["progress"][state] for state in UNFINISHED_ITEM_STATES)
        work = float(fields["work"] or 0) / max(view["total"], 1) * unfinished
        if not work:
            return Estimate(None, "nothing is left to be made")
        with guarded("batch throughput", let_through=(BrokerUnavailable,)):
            options = BatchOptions.from_json((fields["terms"] or b"{}").decode())
            return self.forecaster.forecast(work, options, batch_id)
        return Estimate(None, "its record in the broker is damaged")

    def _run(self, name: str, names: Sequence[str], arguments: tuple[Any, ...]) -> Any:
        with broker_errors():
            return self._scripts.run(name, names, arguments)


def batch_id_for_key(owner: str, key: str) -> str:
    """Return the id of an owner's batch with a key. It is the same on a broker that has lost its data."""
    return sha256(f"batch\0{owner}\0{key}".encode()).hexdigest()[:16]


def _plan_bytes(batch_spec: Spec) -> int:
    """Return about how many bytes the plan of a batch will have: the request of each image, and what is noted of it."""
    bodies = batch_spec.images.bodies
    sizes = sum(len(json.dumps(body)) for body in bodies)
    return batch_spec.total * (sizes // len(bodies) + OVERHEAD_BYTES)


def _flatten(fields: Mapping[str, Any]) -> Sequence[Any]:
    """Return field, value, field, value, ... as the scripts take them."""
    pairs: list[Any] = []
    for name, value in fields.items():
        pairs += (name, value)
    return pairs


def _view_item(item: Item, record: ItemRecord) -> Row:
    entry = record.entry or {}
    return {
        "number": item.number,
        "state": record.state,
        "label": item.label,
        "prompt": item.prompt,
        # What was made, once it is: an engine may have replaced the seed.
        "seed": entry.get("seed", item.seed),
        "attempts": record.attempts,
        "task_id": record.task_id,
        "file": entry.get("file", ""),
        "sha256": entry.get("sha256", ""),
        "error": record.error,
        "submitted_ms": entry.get("submitted_ms"),
        "started_ms": entry.get("started_ms"),
        "finished_ms": entry.get("finished_ms"),
        "seconds": entry.get("seconds"),
    }
