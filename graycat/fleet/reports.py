"""What a worker reports, read as what anybody may have written.

A worker of a box writes its own report alone: the broker's rules name its key. So a report speaks of the worker in its
key, whatever name is in it, and of the queues that such a kind of worker takes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from graycat.bounds.stored import parse_json
from graycat.families import FAMILIES
from graycat.loops.unexpected import note

#: The longest report that is read, the longest text in one that is shown, and the most entries of a list.
MAX_REPORT_BYTES, MAX_TEXT_CHARS, MAX_ENTRIES = 512 * 1024, 2000, 256
#: The most that a number in a report may be; only bytes of memory are more.
MAX_NUMBER, MAX_MEMORY = 10**6, 2**53
#: JSON of the engine's own, which is longer.
_JSON_FIELDS = frozenset({"props", "model_list"})


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One worker's report. ``consuming``: its main loop runs and takes tasks; ``props``: its engine's JSON."""

    name: str
    queues: tuple[str, ...]
    engine: str
    engine_state: str
    consuming: bool
    slots: int
    busy: int
    props: str
    #: Ids of the engine's models, and its own ``/v1/models`` answer.
    models: tuple[str, ...] = ()
    model_list: str = ""
    #: Index of the GPU that the engine pins; None for the CPU.
    gpu: int | None = None
    #: The GPU's state: utilization (percent), memory_used and memory_total (bytes), temperature (degrees Celsius).
    gpu_state: dict[str, int] | None = None
    #: Whether it was asked to take nothing, how often its engine failed in a row, and what is wrong.
    paused: bool = False
    failures: int = 0
    trouble: str = ""
    #: Queues of its own that it does not take from, because they are paused or it was told to leave them.
    left: tuple[str, ...] = ()
    #: Whether those failures are a crash loop, what the last one was, and the seconds until the next start.
    crash_loop: bool = False
    last_failure: str = ""
    retry_in_s: float = 0.0
    #: The version of the engine's catalog, which ``WorkerRegistry.catalog`` returns; '' if it has none.
    catalog: str = ""
    #: How old the answer of ``/slots`` in that catalog is.
    slots_age_s: float = 0.0
    #: The names of its loops (``graycat.loops``) that are stuck or gone.
    stuck: tuple[str, ...] = ()
    #: How many of the ``busy`` tasks are batch work.
    busy_batch: int = 0


#: What a report of another version may lack; each also has the type of its field.
_REQUIRED: dict[str, Any] = {
    "name": "",
    "queues": (),
    "engine": "",
    "engine_state": "",
    "consuming": False,
    "slots": 1,
    "busy": 0,
    "props": "",
}
_NULLABLE = ("gpu", "gpu_state")
_DEFAULTS = dict(_REQUIRED)
for _field in fields(WorkerStatus):
    if _field.name not in _REQUIRED and _field.name not in _NULLABLE:
        _DEFAULTS[_field.name] = _field.default
GPU_FIELDS = ("utilization", "memory_used", "memory_total", "temperature")
#: The queues that each kind of worker takes, by the beginning of such a worker's name.
_QUEUES_BY_KIND: dict[str, frozenset[str]] = {"control": frozenset({"control"})}
for _family in FAMILIES:
    _QUEUES_BY_KIND[_family.name] = frozenset({_family.interactive, _family.batch})
    if _family.quick:
        _QUEUES_BY_KIND[_family.quick_worker] = frozenset({_family.quick})


def parse_report(name: str, report: bytes) -> WorkerStatus | None:
    """Return the status in the report of a worker; None if it cannot be used. Fields of a newer version are ignored."""
    try:
        if len(report) > MAX_REPORT_BYTES:
            raise ValueError("longer than any report")
        values = parse_json(report)
        known: dict[str, Any] = {}
        for field_name, default in _DEFAULTS.items():
            known[field_name] = _check(field_name, values.get(field_name, default), default)
        known["name"] = name
        known["queues"] = _own_queues(name, known["queues"])
        return WorkerStatus(**known, gpu=_parse_gpu(values.get("gpu")), gpu_state=_parse_gpu_state(values))
    except Exception as error:  # noqa: BLE001 (another program may have written anything)
        note("fleet", error)
        return None


def _own_queues(name: str, queues: tuple[str, ...]) -> tuple[str, ...]:
    """Return those queues that a worker of this name may take. Names without a kind are given at home alone."""
    kind, _, _ = name.partition("@")
    allowed = _QUEUES_BY_KIND.get(kind)
    if allowed is None:
        return queues
    return tuple(queue for queue in queues if queue.partition(":")[0] in allowed)


def _check(name: str, value: Any, default: Any) -> Any:
    """Return a field's value, which must be of its default's type. Raises TypeError, ValueError."""
    if isinstance(default, tuple):
        entries = _of_type(value, default if isinstance(value, tuple) else [])
        if len(entries) > MAX_ENTRIES:
            raise ValueError("more entries than any report has")
        return tuple(_check(name, entry, "") for entry in entries)
    if isinstance(default, bool):
        return _of_type(value, default)
    if isinstance(default, int | float):
        return type(default)(_number(value, MAX_NUMBER))
    _of_type(value, default)
    if name in _JSON_FIELDS:
        return value
    # It reaches terminals and pages.
    return "".join(char if char.isprintable() else " " for char in value[:MAX_TEXT_CHARS])


def _of_type(value: Any, default: Any) -> Any:
    if type(value) is not type(default):
        raise TypeError
    return value


def _number(value: Any, most: int) -> int | float:
    if type(value) not in (int, float) or not 0 <= value <= most or not math.isfinite(value):
        raise ValueError("no number that a report has")
    number: int | float = value
    return number


def _parse_gpu(value: Any) -> int | None:
    if value is None:
        return None
    return int(_number(_of_type(value, 0), MAX_NUMBER))


def _parse_gpu_state(values: Mapping[str, Any]) -> dict[str, int] | None:
    state = values.get("gpu_state")
    if state is None:
        return None
    return {name: int(_number(state[name], MAX_MEMORY)) for name in GPU_FIELDS}
