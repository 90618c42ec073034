"""Tasks of operators' workflows: the kinds ``sd.workflow/NAME``, checked against what the workers report of them."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from functools import partial
from typing import Any

from graycat import families
from graycat.errors import EngineNotReady, RequestError
from graycat.fleet.workflows import Offered, workflows_in
from graycat.images.errors import WorkflowNotFound, WorkflowUnavailable
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
    """Return kind, queue, mode and body of a task of a workflow.

    Raises RequestError, LimitExceeded, EngineNotReady, WorkflowUnavailable.
    """
    catalogs = services().catalogs()
    if not catalogs:
        services().require_engine(families.SD)
        raise EngineNotReady
    known = workflows_in(catalogs)
    offered = known.get(name)
    if offered is None:
        near = difflib.get_close_matches(name[:100], list(known), 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise WorkflowNotFound(f"'kind': no worker has the workflow {name[:100]!r}; {hint}GET /workflows lists them")
    if not offered.inputs:
        raise WorkflowUnavailable(name, offered.missing)
    checked, workers = _check(offered, given)
    queue = WORKFLOW.queue
    if len(workers) < len(catalogs):
        busy_slots = {worker.name: worker.busy for worker in services().workers()}
        queue = worker_queue(queue, min(workers, key=lambda worker: busy_slots.get(worker, 0)))
    return WORKFLOW, queue, PLAIN, json.dumps({"workflow": name, "input": checked}).encode()


def _check(offered: Offered, given: Any) -> tuple[dict[str, Any], list[str]]:
    """Return the checked input, and the workers whose engines take it. Raises RequestError, LimitExceeded.

    Engines may have the same workflow and other checkpoints to choose from.
    """
    refusal: RequestError | None = None
    found: list[tuple[Mapping[str, Any], dict[str, Any] | None]] = []
    checked: dict[str, Any] | None = None
    workers = []
    for worker, schema in offered.inputs.items():
        # An input holds images, so the same schema is not checked again.
        known = [outcome for seen, outcome in found if seen == schema]
        outcome = known[0] if known else None
        if not known:
            try:
                outcome = run_in_thread(partial(check_input, schema, given, services().settings, pixel_limit()))
            except RequestError as error:
                refusal = refusal or error
            found.append((schema, outcome))
        if outcome is not None:
            workers.append(worker)
            checked = checked if checked is not None else outcome
    if checked is None:
        raise refusal or EngineNotReady()
    return checked, workers
