"""Tasks of operators' workflows: the kinds ``sd.workflow/NAME``, checked against what the workers report of them."""

from __future__ import annotations

import difflib
import json
from functools import partial
from typing import Any

from graycat import families
from graycat.errors import EngineNotReady
from graycat.fleet.workflows import workflows_in
from graycat.images.errors import WorkflowNotFound
from graycat.images.workflow_inputs import check_input
from graycat.queue.kinds import PLAIN, WORKFLOW, Kind
from graycat.queue.topology import worker_queue
from graycat.web.compat.image_tasks import run_in_thread
from graycat.web.limits import pixel_limit
from graycat.web.services import services

_PREFIX = f"{WORKFLOW.name}/"


def is_workflow_kind(kind: object) -> bool:
    """Return whether a kind of a request is that of a workflow."""
    return isinstance(kind, str) and kind.startswith(_PREFIX)


def name_in(kind: str) -> str:
    """Return the workflow's name in a kind."""
    return kind.removeprefix(_PREFIX)


def prepare(name: str, given: Any) -> tuple[Kind, str, str, bytes]:
    """Return kind, queue, mode and body of a task of a workflow. Raises RequestError, LimitExceeded, EngineNotReady."""
    catalogs = services().catalogs()
    if not catalogs:
        services().require_engine(families.SD)
        raise EngineNotReady
    known = workflows_in(catalogs)
    entry = known.get(name)
    if entry is None:
        near = difflib.get_close_matches(name[:100], list(known), 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise WorkflowNotFound(f"'kind': no worker has the workflow {name[:100]!r}; {hint}GET /workflows lists them")
    checked = run_in_thread(partial(check_input, entry["input"], given, services().settings, pixel_limit()))
    queue = WORKFLOW.queue
    if len(entry["workers"]) < len(catalogs):
        busy_slots = {worker.name: worker.busy for worker in services().workers()}
        queue = worker_queue(queue, min(entry["workers"], key=lambda worker: busy_slots.get(worker, 0)))
    return WORKFLOW, queue, PLAIN, json.dumps({"workflow": name, "input": checked}).encode()
