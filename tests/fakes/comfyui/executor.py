"""One prompt after the other, node by node, with the messages of each."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from tests.fakes.comfyui import hub as frames
from tests.fakes.comfyui.failures import OutOfMemoryError
from tests.fakes.comfyui.nodes import NODES
from tests.fakes.comfyui.prompts import Item, now_ms
from tests.fakes.comfyui.values import Picture, Result, digest

#: What the real server adds to the message when memory was not enough.
TIPS = "This error means you ran out of memory on your GPU.\n\nTIPS: If the workflow worked before you might have"
TRACEBACK = ['  File "/opt/ComfyUI/execution.py", line 500, in execute\n    output_data = await get_output_data(...)\n']
#: Progress is told this often at most, and when it has moved this far.
THROTTLE_S, THROTTLE_SHARE = 0.1, 0.005


class Interrupted(Exception):
    """Raised in a node whose prompt is to end."""


class Execution:
    """A run of one prompt; the context of the node that runs now."""

    def __init__(self, server: Any, item: Item) -> None:
        self.server = server
        _, self.prompt_id, self.prompt, self.extra_data, self.targets = item
        self.client_id: str | None = self.extra_data.get("client_id")
        self.messages: list[list[Any]] = []
        self.states: dict[str, dict[str, Any]] = {}
        self.executed: list[str] = []
        self.values: dict[str, Result] = {}
        self.node_id = ""
        self.told_at, self.told_share = 0.0, -1.0

    async def run(self) -> bool:
        """Run all nodes; return whether all went well."""
        self.server.interrupted = False
        self.server.client_id = self.client_id
        self.add("execution_start", {"prompt_id": self.prompt_id})
        cache = self.server.cache
        keys = {node_id: self.key(node_id) for node_id in self.needed()}
        for key in set(cache) - set(keys.values()):
            del cache[key]
        cached = [node_id for node_id, key in keys.items() if key in cache]
        self.add("execution_cached", {"nodes": cached, "prompt_id": self.prompt_id})
        self.values = {node_id: cache[keys[node_id]] for node_id in cached}
        self.retell()
        for node_id in keys:
            if node_id not in self.values and not await self.node(node_id, keys[node_id]):
                return False
        self.add("execution_success", {"prompt_id": self.prompt_id})
        return True

    def retell(self) -> None:
        """Tell the old files of output nodes that are cached."""
        for node_id, result in self.values.items():
            if result.ui is not None and node_id in self.targets:
                self.tell_output(node_id, result)

    def needed(self) -> list[str]:
        """Return the nodes that the outputs depend on, in an order in which they can run."""
        order: list[str] = []

        def visit(node_id: str) -> None:
            if node_id in order:
                return
            for value in self.prompt[node_id]["inputs"].values():
                if isinstance(value, list):
                    visit(value[0])
            order.append(node_id)

        for node_id in self.targets:
            visit(node_id)
        return order

    def key(self, node_id: str) -> bytes:
        """Return what a node's result depends on. Two that are equal have equal results."""
        item = self.prompt[node_id]
        node = NODES[item["class_type"]]
        inputs = {
            name: self.key(v[0]) + bytes([v[1]]) if isinstance(v, list) else v for name, v in item["inputs"].items()
        }
        beside = None
        if node.depends is not None:
            beside = node.depends(self.server.folders, item["inputs"])
        return digest(item["class_type"], sorted(inputs.items()), beside, node_id if node.output_node else "")

    async def node(self, node_id: str, key: bytes) -> bool:
        """Run one node; return whether it went well."""
        self.node_id = self.server.last_node_id = node_id
        item = self.prompt[node_id]
        try:
            self.end_if_interrupted()
            self.state(node_id, "running", 0, 1)
            self.to_client("executing", {"node": node_id, "display_node": node_id, "prompt_id": self.prompt_id})
            await self.server.fail_if_told(item["class_type"])
            inputs = {
                name: self.values[v[0]].outputs[v[1]] if isinstance(v, list) else v
                for name, v in item["inputs"].items()
            }
            result = await NODES[item["class_type"]].run(self, inputs)
        except Interrupted:
            said = {"prompt_id": self.prompt_id, "node_id": node_id, "node_type": item["class_type"]}
            self.add("execution_interrupted", said | {"executed": self.executed[:]}, everybody=True)
            return False
        except Exception as error:  # noqa: BLE001 (whatever a node raises is its prompt's error)
            self.failed(node_id, error)
            return False
        self.values[node_id] = result
        if not self.server.options.cache_none:
            self.server.cache[key] = result
        if result.ui is not None:
            self.tell_output(node_id, result)
        self.state(node_id, "finished", 1, 1)
        self.executed.append(node_id)
        await asyncio.sleep(0)
        return True

    def failed(self, node_id: str, error: Exception) -> None:
        """Tell of a node that raised."""
        message, kind = f"{error}\n", type(error).__name__
        if isinstance(error, OutOfMemoryError):
            message, kind = f"{error}\n{TIPS}", "torch.OutOfMemoryError"
        self.add(
            "execution_error",
            {
                "prompt_id": self.prompt_id,
                "node_id": node_id,
                "node_type": self.prompt[node_id]["class_type"],
                "executed": self.executed[:],
                "exception_message": message,
                "exception_type": kind,
                "traceback": TRACEBACK,
                "current_inputs": {name: [str(v)] for name, v in self.prompt[node_id]["inputs"].items()},
                "current_outputs": list(self.values),
            },
        )

    def tell_output(self, node_id: str, result: Result) -> None:
        """Tell a node's files or texts."""
        said = {"node": node_id, "display_node": node_id, "output": result.ui, "prompt_id": self.prompt_id}
        self.to_client("executed", said)

    def end_if_interrupted(self) -> None:
        """Raise Interrupted if the running prompt is to end; that is said once."""
        if self.server.interrupted:
            self.server.interrupted = False
            raise Interrupted

    def add(self, kind: str, data: dict[str, Any], *, everybody: bool = False) -> None:
        """Send a message that is kept for the history too; without a client, only ``everybody`` hears it."""
        data = data | {"timestamp": now_ms()}
        self.messages.append([kind, data])
        if self.client_id is not None or everybody:
            self.server.hub.send(kind, data, self.client_id)

    def to_client(self, kind: str, data: dict[str, Any]) -> None:
        """Send a message to the client of the prompt, if it has one."""
        if self.client_id is not None:
            self.server.hub.send(kind, data, self.client_id)

    def state(self, node_id: str, state: str, value: float, total: float) -> None:
        """Tell the states of all nodes so far; goes to everybody if the prompt has no client."""
        known = self.states.get(node_id)
        if state == "finished" and known is not None:
            value = total = known["max"]
        own = {"value": value, "max": total, "state": state, "node_id": node_id, "prompt_id": self.prompt_id}
        more = {"display_node_id": node_id, "parent_node_id": None, "real_node_id": node_id}
        self.states[node_id] = own | more
        if self.server.habits.progress_state:
            said = {"prompt_id": self.prompt_id, "nodes": self.states}
            self.server.hub.send("progress_state", said, self.client_id)

    async def progress(self, value: int, total: int, picture: Picture | None = None) -> None:
        """Tell a node's progress, with a preview if those are on. Raises Interrupted if the prompt is to end."""
        self.end_if_interrupted()
        if not self.server.previews(self.extra_data):
            picture = None
        if picture is None and self.throttled(value, total):
            return
        self.state(self.node_id, "running", value, total)
        hub = self.server.hub
        with_metadata = self.server.habits.progress_state and hub.knows_metadata(self.client_id)
        image = b""
        if picture is not None:
            image = self.server.lies.preview(picture, self.server.options.preview_size)
            if with_metadata:
                hub.send_frame(frames.preview_with_metadata(image, self.node_id, self.prompt_id), self.client_id)
        said = {"value": value, "max": total, "prompt_id": self.prompt_id, "node": self.node_id}
        hub.send("progress", said, self.client_id)
        for message in self.server.lies.messages(self.prompt_id):
            hub.deliver(message, self.client_id)
        if picture is not None and not with_metadata:
            hub.send_frame(frames.preview(image), self.client_id)
        if hub.mode == "cut":
            hub.cut()

    def throttled(self, value: int, total: int) -> bool:
        """Return whether a step is not worth a message: it is neither the first nor the last, and the last is near."""
        now = time.monotonic()
        share = value / total
        near = now - self.told_at < THROTTLE_S or share - self.told_share < THROTTLE_SHARE
        if self.server.habits.throttled and 1 < value < total and near:
            return True
        self.told_at, self.told_share = now, share
        return False


async def work(server: Any) -> None:
    """Run prompts for ever, one at a time."""
    while True:
        item = await server.prompts.take()
        execution = Execution(server, item)
        well = await execution.run()
        server.last_node_id = None
        outputs = {n: r.ui for n, r in execution.values.items() if r.ui is not None}
        meta = {n: {"node_id": n, "display_node": n, "parent_node": None, "real_node_id": n} for n in outputs}
        status = {"status_str": "success" if well else "error", "completed": well, "messages": execution.messages}
        server.prompts.done({"outputs": outputs, "meta": meta}, status)
        execution.to_client("executing", {"node": None, "prompt_id": execution.prompt_id})
        if server.flags.pop("free_memory", False):
            server.cache.clear()
