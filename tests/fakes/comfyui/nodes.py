"""The classes of nodes that the double knows: what they take, what they give, what they do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.fakes.comfyui.values import Picture, Result

#: A type's name or a list of choices, and the options of the widget.
Spec = tuple[Any, dict[str, Any]]
Inputs = dict[str, Any]


class Context(Protocol):
    """What a running node can reach."""

    node_id: str
    prompt: dict[str, Any]
    extra_data: dict[str, Any]
    server: Any

    async def progress(self, value: int, total: int, preview: Picture | None = None) -> None:
        """Tell how far the node is; raises Interrupted if its prompt is to end."""


Run = Callable[[Context, Inputs], Awaitable[Result]]
#: Returns True, or what is wrong.
Check = Callable[[Any, Any], bool | str]


@dataclass(frozen=True)
class Node:
    """A class of nodes. ``required``, ``optional``: inputs as ``/object_info`` tells them.

    ``checked``: the input that ``check`` looks at, in place of the list of choices.
    """

    run: Run
    required: dict[str, Any]
    outputs: tuple[str, ...] = ()
    optional: dict[str, Any] = field(default_factory=dict)
    hidden: dict[str, Any] = field(default_factory=dict)
    output_names: tuple[str, ...] = ()
    output_node: bool = False
    title: str = ""
    category: str = "sd"
    module: str = "nodes"
    checked: str = ""
    check: Check | None = None
    #: What a result depends on besides the inputs (a file's bytes).
    depends: Callable[[Any, Inputs], Any] | None = None


#: By class; the modules ``builtin_nodes`` and ``operator_nodes`` fill it.
NODES: dict[str, Node] = {}


def listed(choice: Any, folders: Any) -> list[str]:
    """Return a list of choices; a callable one is asked for what is there now."""
    return list(choice(folders)) if callable(choice) else list(choice)


def choices(spec: Spec, folders: Any) -> list[str] | None:
    """Return what an input may be if it is a choice, else None."""
    kind, options = spec
    if callable(kind) or isinstance(kind, list):
        return listed(kind, folders)
    return listed(options["options"], folders) if kind == "COMBO" else None


def told(spec: Spec, folders: Any) -> list[Any]:
    """Return type and options of an input as errors tell them."""
    kind, options = spec
    if "options" in options:
        return [kind, options | {"options": listed(options["options"], folders)}]
    return [kind if isinstance(kind, str) else listed(kind, folders), options]


def described(spec: Spec, folders: Any) -> list[Any]:
    """Return an input as ``/object_info`` tells it: options only where there are some."""
    kind, options = told(spec, folders)
    return [kind, options] if options else [kind]


def describe(name: str, folders: Any) -> dict[str, Any]:
    """Return a class as ``/object_info`` tells it."""
    node = NODES[name]
    groups = {"required": node.required, "optional": node.optional}
    inputs: dict[str, Any] = {}
    order: dict[str, Any] = {}
    for group, specs in groups.items():
        if specs or group == "required":
            inputs[group] = {key: described(spec, folders) for key, spec in specs.items()}
            order[group] = list(specs)
    if node.hidden:
        inputs["hidden"] = node.hidden
        order["hidden"] = list(node.hidden)
    return {
        "input": inputs,
        "input_order": order,
        "output": list(node.outputs),
        "output_is_list": [False] * len(node.outputs),
        "output_name": list(node.output_names or node.outputs),
        "name": name,
        "display_name": node.title or name,
        "description": "",
        "python_module": node.module,
        "category": node.category,
        "output_node": node.output_node,
    }
