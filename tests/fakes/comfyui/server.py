"""All that one server knows, and what its worker does."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from typing import Any

from tests.fakes.comfyui import builtin_nodes, operator_nodes, validation
from tests.fakes.comfyui.failures import fail
from tests.fakes.comfyui.files import Folders
from tests.fakes.comfyui.hub import Hub
from tests.fakes.comfyui.lies import Lies
from tests.fakes.comfyui.prompts import Prompts
from tests.fakes.comfyui.values import Result
from tests.fakes.comfyui.versions import habits_of

#: Importing them has filled the table of nodes.
PACKS = (builtin_nodes, operator_nodes)


class Server:
    """One server. Nothing of it outlives the process but the files."""

    def __init__(self, options: Namespace) -> None:
        self.options = options
        self.habits = habits_of(options.comfyui_version)
        self.folders = Folders(options)
        self.hub = Hub(options.socket)
        self.lies = Lies(options.lie)
        self.prompts = Prompts(self.tell_status)
        self.cache: dict[bytes, Result] = {}
        self.flags: dict[str, Any] = {}
        #: The priority that the next prompt gets; refused ones count too.
        self.number = 0
        self.interrupted = False
        #: The client of the latest prompt, and the node that runs.
        self.client_id: str | None = None
        self.last_node_id: str | None = None
        self.failed = 0
        #: Requests so far, by method and path.
        self.seen: Counter[str] = Counter()

    def status(self) -> dict[str, Any]:
        """Return how much is to do, as the wire tells it."""
        return {"exec_info": {"queue_remaining": self.prompts.remaining()}}

    def tell_status(self) -> None:
        """Tell all sockets how much is to do."""
        self.hub.send("status", {"status": self.status()})

    def validate(self, prompt: dict[str, Any], targets: list[str] | None) -> tuple[list[str], dict[str, Any]]:
        """Return the outputs that can be made and the problems of others. Raises Refused if there is none."""
        return validation.Validation(prompt, self.folders, self.habits).outputs(targets)

    def previews(self, extra_data: dict[str, Any]) -> bool:
        """Return whether a run sends previews."""
        method = self.options.preview_method
        if self.habits.preview_method:
            method = extra_data.get("preview_method") or method
        return bool(method != "none")

    async def fail_if_told(self, class_type: str) -> None:
        """Fail in a node, if that is what the options say."""
        options = self.options
        if options.fail is None or class_type != options.failing_node:
            return
        if options.fails is not None and self.failed >= options.fails:
            return
        self.failed += 1
        await fail(options.fail)

    def features(self) -> dict[str, Any]:
        """Return what the server can."""
        size = round(self.options.max_upload_size * 1024 * 1024)
        return {"supports_preview_metadata": True, "max_upload_size": size}

    def interrupt(self, prompt_id: Any) -> None:
        """End the running prompt: that one, or with None whatever runs."""
        running = self.prompts.running
        whatever = not self.habits.targeted_interrupt or not prompt_id
        if whatever or (running is not None and running[1] == prompt_id):
            self.interrupted = True
