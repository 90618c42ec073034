"""Workflows in ComfyUI's API format: ``{"ID": {"class_type", "inputs", "_meta"?}}``; a link is ``["ID", slot]``."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

Node = dict[str, Any]
Workflow = dict[str, Node]
#: Inputs that name what an output node writes. A name of its own for each prompt: the same workflow again would
#: otherwise make nothing new, and a file that was deleted gives its name to the next one.
PREFIX_INPUT = "filename_prefix"


def load_template(name: str) -> Workflow:
    """Return a workflow that graycat ships: ``txt2img``, ``img2img``, ``inpaint``."""
    text = files("graycat.engines.comfy").joinpath(f"templates/{name}.json").read_text()
    workflow: Workflow = json.loads(text)
    return workflow


def is_link(value: Any) -> bool:
    """Return whether an input's value is a link to another node's output."""
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], int)


def relink(workflow: Workflow, source: tuple[str, int], target: tuple[str, int], *, but: str = "") -> None:
    """Let all nodes that take an output take another one in its place; ``but``: a node that keeps it."""
    for name, node in workflow.items():
        if name == but:
            continue
        for field, value in node["inputs"].items():
            if value == list(source):
                node["inputs"][field] = list(target)


def with_prefix(workflow: Mapping[str, Node], prefix: str) -> Workflow:
    """Return a workflow whose files get names of their own."""
    own = copy.deepcopy(dict(workflow))
    for node in own.values():
        if isinstance(node["inputs"].get(PREFIX_INPUT), str):
            node["inputs"][PREFIX_INPUT] = prefix
    return own


def multiply(workflow: Workflow, first: str, count: int) -> list[Workflow]:
    """Return ``count`` parts of one workflow: the node ``first`` and all that depend on it, once for each image.

    What comes before (models, texts) is shared. The parts together are one workflow.
    """
    dependent = {first}
    grown = True
    while grown:
        grown = False
        for name, node in workflow.items():
            sources = {value[0] for value in node["inputs"].values() if is_link(value)}
            if name not in dependent and sources & dependent:
                dependent.add(name)
                grown = True
    shared = {name: node for name, node in workflow.items() if name not in dependent}
    parts = []
    for number in range(count):
        part = copy.deepcopy(shared)
        for name in dependent:
            node = copy.deepcopy(workflow[name])
            for field, value in node["inputs"].items():
                if is_link(value) and value[0] in dependent:
                    node["inputs"][field] = [f"{value[0]}-{number}", value[1]]
            part[f"{name}-{number}"] = node
        parts.append(part)
    return parts
