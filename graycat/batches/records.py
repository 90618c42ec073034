"""Batches as their owners see them: submit, look, pause, resume, cancel, try again."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

from graycat.batches import spec
from graycat.batches.errors import BatchConflict, BatchNotFound, TooManyBatches, WrongBatchState
from graycat.batches.plan import Item
from graycat.batches.spec import Spec
from graycat.batches.states import CANCELLED, ENDED, FAILED, ITEM_STATES, WAITING, part_keys
from graycat.batches.throughput import ThroughputStats
from graycat.broker.client import broker_errors
from graycat.broker.keys import BATCHES, LIVE_BATCHES, batch_key, batch_part_key, owner_batches_key
from graycat.broker.protocol import Broker
from graycat.broker.scripts import load
from graycat.settings import Settings

_LUA = Path(__file__).parent / "lua"

#: Whole numbers among a record's fields.
NUMBERS = ("total", "submitted_ms", "started_ms", "finished_ms", "deadline_ms")
#: Texts of a record that its owner sees.
TEXTS = ("name", "owner", "key", "schedule", "state", "reason", "folder", "store")
SCRIPTS = ("submit", "set_state")

Row = dict[str, Any]
Rows = list[Row]
Ids = list[str]


class BatchRecords:
    """The batches in the broker. Every method raises BrokerUnavailable; those that take an id, BatchNotFound.

    ``owner`` is the API token's name; None looks at everybody's.
    """

    def __init__(self, client: Broker, settings: Settings) -> None:
        self._client = client
        self._settings = settings
        self.speeds = ThroughputStats(client)
        self._scripts = {name: client.register_script(load(_LUA / f"{name}.lua")) for name in SCRIPTS}

    def submit(
        self,
        document: Mapping[str, Any] | Spec,
        owner: str,
        key: str = "",
        schedule: str = "",
        *,
        most_pixels: int | None = None,
    ) -> tuple[str, bool]:
        """Accept a batch; return its id and whether it is new. The same owner and key again are the same batch.

        ``document`` is checked here, unless it is a Spec already. Raises InvalidBatch, BatchConflict where the key
        belongs to another spec, TooManyBatches.
        """
        wanted = document if isinstance(document, Spec) else spec.parse(document, self._settings, most_pixels)
        batch_id = keyed_id(owner, key) if key else uuid4().hex[:16]
        digest = spec.digest_of(wanted.document)
        fields: Row = {
            "name": wanted.name,
            "owner": owner,
            "key": key,
            "schedule": schedule,
            "document": json.dumps(wanted.document),
            "digest": digest,
            "terms": wanted.terms.encoded(),
            "store": wanted.terms.store,
            "total": wanted.total,
            # What random seeds come from, unless the output knows better.
            "entropy": secrets.token_hex(8),
            "verify": 1,
        }
        if wanted.terms.webhook:
            fields["webhook"] = wanted.terms.webhook
        names = [batch_key(batch_id), LIVE_BATCHES, BATCHES, owner_batches_key(owner)]
        pairs = [item for pair in fields.items() for item in pair]
        done = self._run("submit", names, (batch_id, self._settings.batch_max_live, *pairs))
        if done == -1:
            raise TooManyBatches(self._settings.batch_max_live)
        if done == 0 and self._fields(batch_id, ("digest",))["digest"] != digest:
            raise BatchConflict
        return batch_id, done == 1

    def get(self, batch_id: str, owner: str | None = None) -> Row:
        """Return what is known of a batch: its fields, ``progress`` (items by state), ``eta_s``, ``gpu_s`` so far."""
        return self._shown([batch_id], owner)[0]

    def list(self, owner: str | None = None, count: int = 100, offset: int = 0) -> Rows:
        """Return an owner's batches, newest first."""
        index = BATCHES if owner is None else owner_batches_key(owner)
        with broker_errors():
            ids = [name.decode() for name in self._client.zrevrange(index, offset, offset + count - 1)]
        return self._shown(ids, owner, strict=False)

    def live(self, count: int = 100) -> Rows:
        """Return batches that have not ended, those first whose turn is next."""
        with broker_errors():
            ids = [name.decode() for name in self._client.zrange(LIVE_BATCHES, 0, count - 1)]
        return self._shown(ids, None, strict=False)

    def document(self, batch_id: str, owner: str | None = None) -> Row:
        """Return the spec of a batch as it was given."""
        found: Row = json.loads(self._fields(batch_id, ("document",), owner)["document"])
        return found

    def items(
        self, batch_id: str, offset: int = 0, count: int = 100, owner: str | None = None, state: str = ""
    ) -> Rows:
        """Return items in the order of their numbers; none before a batch is planned. ``state``: only those in it.

        Each has number, state, prompt, seed, attempts, task_id, file, sha256, error and times.
        """
        total = int(self._fields(batch_id, ("total",), owner)["total"])
        with broker_errors():
            if state:
                found = self._client.zrange(batch_part_key(batch_id, state), offset, offset + count - 1)
                numbers = [int(number) for number in found]
            else:
                numbers = list(range(offset + 1, min(offset + count, total) + 1))
            if not numbers:
                return []
            plan = self._client.hmget(batch_part_key(batch_id, "plan"), numbers)
            known = self._client.hmget(batch_part_key(batch_id, "items"), numbers)
        pairs = zip(plan, known, strict=True)
        return [_shown_item(Item.from_record(text), kept) for text, kept in pairs if text is not None]

    def item(self, batch_id: str, number: int, owner: str | None = None) -> Row | None:
        """Return one item; None where there is none."""
        found = self.items(batch_id, number - 1, 1, owner) if number > 0 else []
        return found[0] if found else None

    def lines(self, batch_id: str, owner: str | None = None) -> Iterable[str]:
        """Return the manifest's lines so far, in the order of the items."""
        for offset in range(0, int(self._fields(batch_id, ("total",), owner)["total"]), 500):
            with broker_errors():
                texts = self._client.hmget(batch_part_key(batch_id, "items"), range(offset + 1, offset + 501))
            found = [json.loads(text) for text in texts if text is not None]
            yield from (json.dumps(known["line"]) for known in found if known["state"] == "done")

    def pause(self, batch_id: str, owner: str | None = None) -> Row:
        """Have a batch start no more items; one that is rendered is finished. Raises WrongBatchState."""
        fields = {"reason": "paused by its owner", "paused_by": "owner"}
        return self._changed("be paused", batch_id, owner, "queued running paused", "paused", fields)

    def resume(self, batch_id: str, owner: str | None = None) -> Row:
        """Have a batch go on, whatever stopped it; what is there already is verified first.

        Of one that had ended, what is missing or damaged is made again. Raises WrongBatchState while it runs.
        """
        return self._revived("be resumed", batch_id, owner, (CANCELLED,))

    def retry_failed(self, batch_id: str, owner: str | None = None) -> Row:
        """Have the items that failed made once more, in any state of the batch but cancelled or queued."""
        return self._revived("try its failed items again", batch_id, owner, (FAILED, CANCELLED), "running queued")

    def cancel(self, batch_id: str, owner: str | None = None) -> Row:
        """Cancel a batch; what it has made stays. Harmless where it has ended."""
        fields = {"reason": "cancelled by its owner", "finished_ms": "NOW", "paused_by": ""}
        self._state(batch_id, owner, "queued running paused", "cancelled", fields)
        return self.get(batch_id, owner)

    def _revived(self, verb: str, batch_id: str, owner: str | None, lost: tuple[str, ...], also: str = "") -> Row:
        again = ",".join(lost)
        fields = {
            "reason": "",
            "paused_by": "",
            "finished_ms": "",
            "verify": 1,
            "again": again,
            "started_from_ms": "NOW",
        }
        return self._changed(verb, batch_id, owner, f"paused succeeded failed cancelled {also}", "queued", fields)

    def _changed(
        self, verb: str, batch_id: str, owner: str | None, allowed: str, state: str, fields: Mapping[str, Any]
    ) -> Row:
        was = self._state(batch_id, owner, allowed, state, fields)
        if was not in allowed.split():
            raise WrongBatchState(verb, was)
        return self.get(batch_id, owner)

    def _state(self, batch_id: str, owner: str | None, allowed: str, state: str, fields: Mapping[str, Any]) -> str:
        self._fields(batch_id, ("owner",), owner)
        return self.change_state(batch_id, allowed, state, fields)

    def change_state(self, batch_id: str, allowed: str, state: str, fields: Mapping[str, Any]) -> str:
        """Change a batch's state from one of those ``allowed`` (parted by blanks); return the one it was in."""
        names = [batch_key(batch_id), LIVE_BATCHES, *part_keys(batch_id)]
        pairs = [item for pair in fields.items() for item in pair]
        was = self._run("set_state", names, (batch_id, allowed, state, *pairs)).decode()
        if not was:
            raise BatchNotFound
        return str(was)

    def _fields(self, batch_id: str, names: tuple[str, ...], owner: str | None = None) -> dict[str, str]:
        with broker_errors():
            row = self._client.hmget(batch_key(batch_id), ("owner", *names))
        if row[0] is None or (owner is not None and row[0].decode() != owner):
            raise BatchNotFound
        return dict(zip(names, ((value or b"").decode() for value in row[1:]), strict=True))

    def _shown(self, ids: Ids, owner: str | None, *, strict: bool = True) -> Rows:
        with broker_errors(), self._client.pipeline(transaction=False) as pipe:
            for batch_id in ids:
                pipe.hmget(batch_key(batch_id), (*TEXTS, *NUMBERS, "terms", "work", "gpu_ms"))
                for state in ITEM_STATES:
                    pipe.zcard(batch_part_key(batch_id, state))
            rows = pipe.execute()
        step = 1 + len(ITEM_STATES)
        found = []
        for place, batch_id in enumerate(ids):
            row, *counts = rows[place * step : (place + 1) * step]
            fields = dict(zip((*TEXTS, *NUMBERS, "terms", "work", "gpu_ms"), row, strict=True))
            if fields["name"] is None or (owner is not None and fields["owner"].decode() != owner):
                if strict:
                    raise BatchNotFound
                continue
            found.append(self._view(batch_id, fields, dict(zip(ITEM_STATES, counts, strict=True))))
        return found

    def _view(self, batch_id: str, fields: Mapping[str, bytes | None], counts: dict[str, int]) -> Row:
        shown: Row = {"id": batch_id}
        shown |= {name: (fields[name] or b"").decode() for name in TEXTS}
        shown |= {name: int(value) if (value := fields[name]) else None for name in NUMBERS}
        if not any(counts.values()):
            # It is not planned yet.
            counts |= {WAITING: shown["total"]}
        shown["progress"] = counts
        terms = json.loads(fields["terms"] or b"{}")
        shown |= {name: terms.get(name) for name in ("window", "timezone", "max_gpus", "max_failures", "deadline_s")}
        shown["gpu_s"] = round(int(fields["gpu_ms"] or 0) / 1000, 3)
        left = 0 if shown["state"] in ENDED else sum(counts[state] for state in ITEM_STATES[:3])
        work = float(fields["work"] or 0) / max(shown["total"], 1) * left
        shown["eta_s"] = self.speeds.eta_s(work) if left and work else None
        return shown

    def _run(self, name: str, names: Ids, arguments: tuple[Any, ...]) -> Any:
        with broker_errors():
            return self._scripts[name](keys=names, args=arguments)


def keyed_id(owner: str, key: str) -> str:
    """Return the id of an owner's batch with a key: the same also on a broker that has forgotten everything."""
    return sha256(f"batch\0{owner}\0{key}".encode()).hexdigest()[:16]


def _shown_item(item: Item, kept: bytes | None) -> Row:
    known: Row = json.loads(kept) if kept else {"state": WAITING}
    line = known.get("line") or {}
    times = ("submitted_ms", "started_ms", "finished_ms", "seconds")
    return {
        "number": item.number,
        "state": known["state"],
        "prompt": item.prompt,
        "seed": item.seed,
        "attempts": known.get("attempts", 0),
        "task_id": known.get("task_id", ""),
        "file": line.get("file", ""),
        "sha256": line.get("sha256", ""),
        "error": known.get("error"),
        **{name: line.get(name) for name in times},
    }
