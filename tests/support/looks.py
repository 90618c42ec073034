"""What a look at the broker may see."""

from __future__ import annotations

from dataclasses import replace

from graycat.broker.quarantine import QuarantinedItem
from graycat.fleet.processes import ProcessStatus
from graycat.fleet.reports import WorkerStatus
from graycat.status.memory_scan import MemoryUse
from graycat.status.queues import QueueSnapshot
from graycat.status.scaling import ScaleHint
from graycat.status.snapshot import Snapshot

WORKER = WorkerStatus(
    name="llm@box-gpu1", queues=("llm",), engine="llama-server", engine_state="loading", consuming=False, slots=4,
    busy=2, props="", gpu=1, failures=3, paused=True, stuck=("stream relay", "supervisor"),
    gpu_state={"utilization": 42, "memory_used": 3000, "memory_total": 8000, "temperature": 61},
)  # fmt: skip
CONTROL = replace(WORKER, name="control@box", engine="", engine_state="ready", busy=5, gpu=None, gpu_state=None)
HINT = ScaleHint(
    hint=6, need=9, serving=1, starting=0, waiting=7, running=2, batch_left=0, slots=4, task_s=3.0, batch_task_s=10.0,
    min=1, max=8,
)  # fmt: skip
LOOK = Snapshot(
    queues={"llm": QueueSnapshot(7, 12.5, 0, paused=False), "sd": QueueSnapshot(0, 0.0, 2, paused=True)},
    workers=[CONTROL, WORKER, replace(WORKER, name="quick@box", queues=("llm.quick",))],
    missed=["sd@box"],
    deliveries=3,
    held=MemoryUse(1000, 2000, used=5000, most=9000, stored=600),
    processes={
        "box": [ProcessStatus("web", "running", 17), ProcessStatus("sd", "crash loop", None, 4, "exit status 1", 8.0)]
    },
    scale={"llm": HINT},
    beat=True,
    schedules=2,
    quarantine=[QuarantinedItem(1_700_000_000_000, "hub", "ValueError", 12)],
)
