"""An operator's own workflows: files in API format in a folder, with named inputs and a schema of these.

Inputs are named in the titles of nodes, which ComfyUI's editor keeps in the file: ``input:prompt`` names the value of a
node that has one; a node with several gives each a name, ``input:sampler`` has ``sampler.seed``, ``sampler.steps``;
``input:seed=seed, steps=steps`` names some of them. A side file ``NAME.inputs.json`` says the same in place of titles:
``{"prompt": {"node": "6", "input": "text", "description": ..., "required": true}}``.

What types, ranges and choices they have stands in ``/object_info``.
"""

from __future__ import annotations

import copy
import json
import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from graycat.bounds.names import find_nearest
from graycat.bounds.stored import parse_json
from graycat.engines.comfy import graph
from graycat.engines.comfy.catalog import ObjectInfo, choices_of, input_spec, texts
from graycat.engines.comfy.generation import seed_of_task
from graycat.engines.comfy.graph import Workflow
from graycat.images.workflow_inputs import IMAGE, NAME, TEXT
from graycat.settings import Settings

logger = logging.getLogger(__name__)

#: The most files of a folder, and bytes of one.
MAX_WORKFLOWS, MAX_FILE_BYTES = 200, 4 * 1024 * 1024
SIDE_SUFFIX = ".inputs.json"
MARK = "input:"
#: A bound that is larger is none.
LARGEST_BOUND = 1e300
#: Inputs that graycat chooses if the caller does not: ComfyUI never does.
SEEDS = ("seed", "noise_seed")
#: Choices that are held against the engine's lists before anything runs: names of models' files, and these inputs.
#: Nodes of extensions may take other choices than they list (ComfyUI then asks the node itself).
_MODEL_SUFFIXES = (".safetensors", ".sft", ".ckpt", ".gguf", ".pt", ".pth", ".bin", ".onnx")
_LISTED_INPUTS = ("sampler_name", "scheduler")
_TYPES = {"INT": "integer", "FLOAT": "number", "STRING": "string", "BOOLEAN": "boolean"}
#: Keys of an entry of a side file.
_SIDE_KEYS = frozenset({"node", "input", "description", "required", "minimum", "maximum", "enum"})


class UnusableWorkflow(Exception):
    """Raised for a file that is no workflow that graycat can run; the message says why, for its operator."""


@dataclass(frozen=True)
class Target:
    """Where a named input belongs, and what a side file says of it."""

    node: str
    field: str
    extra: Mapping[str, Any]


@dataclass(frozen=True)
class NamedWorkflow:
    """A workflow with named inputs."""

    name: str
    workflow: Workflow
    targets: Mapping[str, Target]
    schema: Mapping[str, Any]
    #: Of the file.
    digest: str
    #: What the engine lacks for it, as sentences: a checkpoint, a LoRA, ...
    missing: tuple[str, ...] = ()

    def fill(self, values: Mapping[str, Any], task_id: str, prefix: str) -> tuple[Workflow, dict[str, int]]:
        """Return the workflow with values in it, and the seeds that it has by the names of their inputs.

        ``values``: checked; images by the names of their uploads. ``prefix``: of the files that it makes.
        """
        filled = graph.with_prefix(copy.deepcopy(self.workflow), prefix)
        seeds = {}
        for name, target in self.targets.items():
            value = values.get(name)
            if target.field in SEEDS and value in (None, -1):
                value = seed_of_task(task_id)
            if value is not None:
                filled[target.node]["inputs"][target.field] = value
            if target.field in SEEDS and value is not None:
                seeds[name] = int(value)
        return filled, seeds

    @property
    def images(self) -> list[str]:
        """Return the names of the inputs that are images."""
        return [name for name, part in self.schema["properties"].items() if part.get("contentEncoding") == IMAGE]

    def view(self) -> dict[str, Any]:
        """Return what callers may know of it."""
        view: dict[str, Any] = {"input": self.schema, "digest": self.digest}
        if self.missing:
            view["missing"] = list(self.missing)
        return view


def load_folder(folder: Path, info: ObjectInfo, settings: Settings) -> dict[str, NamedWorkflow]:
    """Return the workflows of a folder by their names. One that cannot be used is left out, and logged."""
    found: dict[str, NamedWorkflow] = {}
    try:
        paths = sorted(path for path in folder.glob("*.json") if not path.name.endswith(SIDE_SUFFIX))
    except OSError as error:
        logger.warning("workflows cannot be read", extra={"reason": error.strerror})
        return found
    if len(paths) > MAX_WORKFLOWS:
        logger.warning("too many workflows: the rest is left out", extra={"most": MAX_WORKFLOWS})
    for path in paths[:MAX_WORKFLOWS]:
        try:
            workflow = load_file(path, info, settings)
            found[workflow.name] = workflow
            if workflow.missing:
                logger.warning("workflow cannot run", extra={"file": path.name, "reason": "; ".join(workflow.missing)})
        except UnusableWorkflow as error:
            logger.warning("workflow left out", extra={"file": path.name, "reason": str(error)})
    return found


def load_file(path: Path, info: ObjectInfo, settings: Settings) -> NamedWorkflow:
    """Return the workflow in a file. Raises UnusableWorkflow."""
    if not NAME.fullmatch(path.stem):
        raise UnusableWorkflow("a name has letters, digits, dots, dashes and underscores, 64 at most")
    raw = _read(path)
    workflow = _parse(raw)
    _check_nodes(workflow, info)
    side = path.with_name(path.stem + SIDE_SUFFIX)
    targets = _read_side(side, workflow) if side.exists() else _read_titles(workflow)
    properties: dict[str, Any] = {}
    required = []
    for name, target in targets.items():
        properties[name] = _property(target, workflow, info, settings)
        is_image = properties[name].get("contentEncoding") == IMAGE
        # The file in the workflow is one of the operator's machine; a model that the engine lacks is none to fall
        # back on.
        if target.extra.get("required", is_image) or "default" not in properties[name]:
            required.append(name)
    schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    missing = tuple(_find_missing(workflow, targets, info))
    return NamedWorkflow(path.stem, workflow, targets, schema, sha256(raw).hexdigest()[:16], missing)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UnusableWorkflow(f"it cannot be read: {error.strerror}") from None
    if len(raw) > MAX_FILE_BYTES:
        raise UnusableWorkflow(f"it has more than {MAX_FILE_BYTES} bytes")
    return raw


def _parse(raw: bytes) -> Workflow:
    try:
        value = parse_json(raw)
    except ValueError:
        raise UnusableWorkflow("it is no JSON") from None
    if isinstance(value, dict) and isinstance(value.get("nodes"), list):
        raise UnusableWorkflow("it is in the editor's format: export it with 'Export (API)'")
    if not isinstance(value, dict) or not value:
        raise UnusableWorkflow("it is no workflow in API format")
    for node in value.values():
        if (
            not isinstance(node, dict)
            or not isinstance(node.get("class_type"), str)
            or not isinstance(node.get("inputs"), dict)
        ):
            raise UnusableWorkflow("it is no workflow in API format: each node has 'class_type' and 'inputs'")
    return value


def _check_nodes(workflow: Workflow, info: ObjectInfo) -> None:
    outputs = 0
    for name, node in workflow.items():
        entry = info.get(node["class_type"])
        if not isinstance(entry, Mapping):
            raise UnusableWorkflow(f"the engine has no node {node['class_type']!r}")
        outputs += bool(entry.get("output_node")) and node["class_type"] != "SaveImageWebsocket"
        for value in node["inputs"].values():
            if graph.is_link(value) and value[0] not in workflow:
                raise UnusableWorkflow(f"the node {name!r} takes its input from one that is not there")
    if not outputs:
        raise UnusableWorkflow("no node of it saves anything: it needs one like SaveImage")


def _is_missing(field: str, value: Any, choices: list[Any]) -> bool:
    """Return whether a value surely is none that the engine takes: ComfyUI itself compares it with the choices."""
    if not isinstance(value, str) or value in choices:
        return False
    return field in _LISTED_INPUTS or value.lower().endswith(_MODEL_SUFFIXES)


def _find_missing(workflow: Workflow, targets: Mapping[str, Target], info: ObjectInfo) -> Iterator[str]:
    """Yield a sentence for each model that a workflow has fixed and its engine does not have."""
    callers = {(target.node, target.field) for target in targets.values()}
    for node_id, node in workflow.items():
        for field, value in node["inputs"].items():
            choices = choices_of(input_spec(info, node["class_type"], field))
            if choices is None or (node_id, field) in callers or not _is_missing(field, value, choices):
                continue
            nearest = find_nearest(value, texts(choices))
            hint = f"; the nearest that it has is {nearest!r}" if nearest else ""
            yield f"{node['class_type']}.{field}: the engine has no {value[:100]!r}{hint}"


def _literals(node: Mapping[str, Any]) -> list[str]:
    """Return the inputs of a node that are values, not links, and that callers may set: they name no files."""
    fields = []
    for field, value in node["inputs"].items():
        if field != graph.PREFIX_INPUT and not isinstance(value, (list, dict)):
            fields.append(field)
    return fields


def _read_titles(workflow: Workflow) -> dict[str, Target]:
    """Return the inputs that titles of nodes name. Raises UnusableWorkflow."""
    targets: dict[str, Target] = {}
    for node_id, node in workflow.items():
        meta = node.get("_meta")
        title = meta.get("title") if isinstance(meta, dict) else None
        if not isinstance(title, str) or not title.startswith(MARK):
            continue
        for name, field in _names_in(title.removeprefix(MARK), _literals(node)).items():
            _add(targets, name, Target(node_id, field, {}), workflow)
    return targets


def _names_in(text: str, literals: list[str]) -> dict[str, str]:
    """Return the inputs of a node by the names that its title gives them."""
    if "=" in text:
        pairs = {}
        for part in text.split(","):
            name, _, field = part.partition("=")
            pairs[name.strip()] = field.strip()
        return pairs
    name = text.strip()
    if len(literals) == 1:
        return {name: literals[0]}
    return {f"{name}.{field}": field for field in literals}


def _read_side(path: Path, workflow: Workflow) -> dict[str, Target]:
    """Return the inputs that a side file names. Raises UnusableWorkflow."""
    try:
        value = parse_json(_read(path))
    except ValueError:
        raise UnusableWorkflow(f"{path.name} is no JSON") from None
    if not isinstance(value, dict):
        raise UnusableWorkflow(f"{path.name} must hold an object")
    targets: dict[str, Target] = {}
    for name, entry in value.items():
        if not isinstance(entry, dict) or entry.keys() - _SIDE_KEYS:
            raise UnusableWorkflow(f"{path.name}: {name!r} may have {', '.join(sorted(_SIDE_KEYS))}")
        _check_entry(f"{path.name}: {name!r}", entry)
        _add(targets, name, Target(str(entry.get("node")), str(entry.get("input")), entry), workflow)
    return targets


def _check_entry(where: str, entry: Mapping[str, Any]) -> None:
    """Raise UnusableWorkflow for an entry of a side file with values of wrong types."""
    for key, types in (("description", str), ("required", bool), ("enum", list)):
        if key in entry and not isinstance(entry[key], types):
            raise UnusableWorkflow(f"{where}: {key!r} has the wrong type")
    for key in ("minimum", "maximum"):
        if key in entry and (isinstance(entry[key], bool) or not isinstance(entry[key], (int, float))):
            raise UnusableWorkflow(f"{where}: {key!r} must be a number")


def _add(targets: dict[str, Target], name: str, target: Target, workflow: Workflow) -> None:
    if not NAME.fullmatch(name):
        raise UnusableWorkflow(f"{name[:100]!r} is no name of an input")
    if name in targets:
        raise UnusableWorkflow(f"two inputs have the name {name!r}")
    node = workflow.get(target.node)
    if node is None or target.field not in _literals(node):
        raise UnusableWorkflow(f"{name!r}: the node {target.node!r} has no value {target.field!r}")
    targets[name] = target


def _property(target: Target, workflow: Workflow, info: ObjectInfo, settings: Settings) -> dict[str, Any]:
    """Return the schema of an input: from ``/object_info``, narrowed by graycat's limits and by a side file."""
    node = workflow[target.node]
    spec = input_spec(info, node["class_type"], target.field)
    kind, options = spec if spec is not None else ("", {})
    part: dict[str, Any] = {"x-input": target.field}
    if options.get("image_upload") or options.get("video_upload"):
        return part | {"type": "string", "contentEncoding": IMAGE, **_described(target)}
    choices = choices_of(spec)
    default = node["inputs"][target.field]
    if choices is not None:
        part["enum"] = choices
    elif isinstance(kind, str) and kind in _TYPES:
        part["type"] = _TYPES[kind]
        part |= _bounds(target.field, options, settings)
        if kind == "STRING" and options.get("multiline"):
            part["format"] = TEXT
    else:
        raise UnusableWorkflow(f"the engine does not say what {node['class_type']}.{target.field} may be")
    if choices is None or not _is_missing(target.field, default, choices):
        part["default"] = default
    part |= _described(target)
    if part.get("minimum", -math.inf) > part.get("maximum", math.inf):
        raise UnusableWorkflow(f"{node['class_type']}.{target.field}: no number is in the range of its side file")
    return part


def _described(target: Target) -> dict[str, Any]:
    """Return what a side file says of an input."""
    return {name: target.extra[name] for name in ("description", "minimum", "maximum", "enum") if name in target.extra}


def _bounds(field: str, options: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """Return the range of a number."""
    bounds: dict[str, Any] = {}
    for key, name in (("min", "minimum"), ("max", "maximum")):
        number = options.get(key)
        # NaN compares as none; an integer may be too large for a float.
        if isinstance(number, (int, float)) and -LARGEST_BOUND <= number <= LARGEST_BOUND:
            bounds[name] = number
    limits = {
        "steps": settings.max_steps,
        "width": settings.max_side,
        "height": settings.max_side,
        "batch_size": settings.max_images,
    }
    if field in limits:
        bounds["maximum"] = min(bounds.get("maximum", limits[field]), limits[field])
    if field in SEEDS:
        # -1: graycat chooses.
        bounds["minimum"] = -1
    return bounds


def to_catalog(workflows: Mapping[str, NamedWorkflow]) -> bytes:
    """Return the workflows as a worker reports them."""
    return json.dumps({name: workflow.view() for name, workflow in workflows.items()}).encode()
