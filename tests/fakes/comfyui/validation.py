"""Whether a prompt can run: section 2 of the reference."""

from __future__ import annotations

from typing import Any

from tests.fakes.comfyui.nodes import NODES, Node, Spec, choices, told
from tests.fakes.comfyui.versions import Habits

Problem = dict[str, Any]
CONVERSIONS = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}
#: A traceback as the wire tells it, which holds the server's paths.
TRACEBACK = ['  File "/opt/ComfyUI/execution.py", line 1000, in validate_prompt\n    m = await validate_inputs(...)\n']
#: What a look at a prompt of a wrong shape raises.
LOOK_FAILS = (KeyError, IndexError, TypeError, AttributeError, RecursionError)
#: Lists of choices that are longer are not told.
MAX_TOLD = 20


class Refused(Exception):
    """Raised when a prompt is not queued; has the answer's ``error`` and ``node_errors``."""

    def __init__(self, error: Problem, node_errors: Problem | None = None) -> None:
        super().__init__(error["type"])
        self.error = error
        self.node_errors = node_errors or {}


def problem(kind: str, message: str, details: str = "", **extra: Any) -> Problem:
    """Return an error as the wire tells it."""
    return {"type": kind, "message": message, "details": details, "extra_info": extra}


class Validation:
    """One look at a prompt. Values are converted where they stand."""

    def __init__(self, prompt: dict[str, Any], folders: Any, habits: Habits) -> None:
        self.prompt = prompt
        self.folders = folders
        self.habits = habits
        #: By node: whether all below it is well, and its own problems.
        self.seen: dict[str, tuple[bool, list[Problem]]] = {}
        #: Nodes that are looked at now: one that comes again depends on itself.
        self.path: list[str] = []

    def outputs(self, targets: list[str] | None) -> tuple[list[str], Problem]:
        """Return the output nodes that can run, and the problems by node. Raises Refused if there is none."""
        wanted = self.output_nodes(targets)
        good = []
        node_errors: Problem = {}
        failures: list[Problem] = []
        for node_id in wanted:
            valid, own = self.looked_at(node_id)
            if valid:
                good.append(node_id)
                continue
            failures += own
            for other, (well, problems) in self.seen.items():
                if not well and problems:
                    class_type = self.prompt[other]["class_type"]
                    entry = {"errors": problems, "dependent_outputs": [], "class_type": class_type}
                    node_errors.setdefault(other, entry)["dependent_outputs"].append(node_id)
        if not good:
            details = "\n".join(f"{failure['message']}: {failure['details']}" for failure in failures)
            raise Refused(
                problem("prompt_outputs_failed_validation", "Prompt outputs failed validation", details), node_errors
            )
        return good, node_errors

    def output_nodes(self, targets: list[str] | None) -> list[str]:
        """Return the nodes that a run is for. Raises Refused if a class is unknown or there are none."""
        wanted = []
        for node_id in self.prompt:
            node = self.prompt[node_id]
            class_type = node.get("class_type")
            if class_type not in NODES:
                raise Refused(self.missing(node_id, node))
            if NODES[class_type].output_node and (targets is None or node_id in targets):
                wanted.append(node_id)
        if not wanted:
            raise Refused(problem("prompt_no_outputs", "Prompt has no outputs"))
        return wanted

    def missing(self, node_id: str, node: Problem) -> Problem:
        """Return what is said of a node whose class nobody knows."""
        class_type = node.get("class_type")
        if class_type is None:
            message = "Cannot execute because a node is missing the class_type property."
        else:
            message = f"Cannot execute because node {class_type} does not exist."
        if not self.habits.missing_node_type:
            return problem("invalid_prompt", message, f"Node ID '#{node_id}'")
        title = (node.get("_meta") or {}).get("title") or class_type
        if class_type is not None:
            message = f"Node '{title}' not found. The custom node may not be installed."
        told_of = {"node_id": node_id, "class_type": class_type, "node_title": title}
        return problem("missing_node_type", message, f"Node ID '#{node_id}'", **told_of)

    def looked_at(self, node_id: str) -> tuple[bool, list[Problem]]:
        """Look at an output node and all that it needs; a failure of the look itself is a problem too."""
        try:
            return self.node(node_id)
        except LOOK_FAILS as error:
            said = {"exception_type": type(error).__name__, "traceback": TRACEBACK}
            found = problem("exception_during_validation", "Exception when validating node", str(error), **said)
            self.path.clear()
            self.seen[node_id] = (False, [found])
            return self.seen[node_id]

    def node(self, node_id: str) -> tuple[bool, list[Problem]]:
        """Look at one node and at what is linked to it."""
        if node_id in self.seen:
            return self.seen[node_id]
        if self.habits.dependency_cycle and node_id in self.path:
            cycle = " -> ".join([*self.path[self.path.index(node_id) :], node_id])
            self.seen[node_id] = (False, [problem("dependency_cycle", "Dependency cycle detected", cycle)])
            return self.seen[node_id]
        self.path.append(node_id)
        item = self.prompt[node_id]
        node = NODES[item["class_type"]]
        problems: list[Problem] = []
        valid = True
        for name, spec in (node.required | node.optional).items():
            if name not in item["inputs"]:
                if name in node.required:
                    problems.append(
                        problem("required_input_missing", "Required input is missing", name, input_name=name)
                    )
                continue
            found, below = self.input(node, name, spec, item["inputs"])
            problems += found
            valid = valid and below
        self.path.pop()
        if node_id in self.seen:
            return self.seen[node_id]
        self.seen[node_id] = (valid and not problems, problems)
        return self.seen[node_id]

    def input(self, node: Node, name: str, spec: Spec, inputs: dict[str, Any]) -> tuple[list[Problem], bool]:
        """Look at one input; return its problems, and whether what is linked to it is well."""
        config = {"input_name": name, "input_config": told(spec, self.folders)}
        value = inputs[name]
        if isinstance(value, list):
            return self.link(name, spec, value, config)
        if isinstance(value, dict) and "__value__" in value:
            value = value["__value__"]
        config["received_value"] = value
        kind, limits = spec
        try:
            value = CONVERSIONS[kind](value) if isinstance(kind, str) and kind in CONVERSIONS else value
        except (TypeError, ValueError, OverflowError) as error:
            message = f"Failed to convert an input value to a {kind} value"
            details = f"{name}, {value}, {error}"
            return [problem("invalid_input_type", message, details, **config, exception_message=str(error))], True
        inputs[name] = value
        if node.checked == name and node.check is not None:
            return self.checked(name, node.check(self.folders, value)), True
        return self.limited(name, limits, value, config) or self.choice(name, spec, value, config), True

    def checked(self, name: str, said: bool | str) -> list[Problem]:
        """Return what a node's own check found."""
        if said is True:
            return []
        message = "Custom validation failed for node"
        return [problem("custom_validation_failed", message, f"{name} - {said}", input_name=name)]

    def limited(self, name: str, limits: dict[str, Any], value: Any, config: Problem) -> list[Problem]:
        """Look at a number that has bounds."""
        if "min" in limits and value < limits["min"]:
            message = f"Value {value} smaller than min of {limits['min']}"
            return [problem("value_smaller_than_min", message, name, **config)]
        if "max" in limits and value > limits["max"]:
            message = f"Value {value} bigger than max of {limits['max']}"
            return [problem("value_bigger_than_max", message, name, **config)]
        return []

    def choice(self, name: str, spec: Spec, value: Any, config: Problem) -> list[Problem]:
        """Look at an input that is one of a list."""
        allowed = choices(spec, self.folders)
        if allowed is None or value in allowed:
            return []
        listed = str(allowed)
        if len(allowed) > MAX_TOLD:
            listed = f"(list of length {len(allowed)})"
            config = config | {"input_config": None}
        return [problem("value_not_in_list", "Value not in list", f"{name}: '{value}' not in {listed}", **config)]

    def link(self, name: str, spec: Spec, value: list[Any], config: Problem) -> tuple[list[Problem], bool]:
        """Look at an input that is another node's output."""
        if len(value) != 2:
            message = "Bad linked input, must be a length-2 list of [node_id, slot_index]"
            return [problem("bad_linked_input", message, name, **config, received_value=value)], True
        other, slot = value
        received = NODES[self.prompt[other]["class_type"]].outputs[slot]
        wanted = spec[0]
        if wanted != "*" and received != wanted:
            shown = list(told(spec, self.folders))[0]
            details = f"{name}, received_type({received}) mismatch input_type({shown})"
            said = {"received_type": received, "linked_node": value}
            message = "Return type mismatch between linked nodes"
            return [problem("return_type_mismatch", message, details, **config, **said)], True
        try:
            return [], self.node(other)[0]
        except LOOK_FAILS as error:
            said = {"input_name": name, "linked_node": value, "exception_message": str(error)}
            said |= {"exception_type": type(error).__name__, "traceback": TRACEBACK}
            message = "Exception when validating inner node"
            found = problem("exception_during_inner_validation", message, str(error), **said)
            self.seen[other] = (False, [found])
            return [], False
