"""ComfyUI's HTTP routes, read strictly: every answer has a size and a deadline, and what is no such answer is an error.

Facts: measured on 0.24.0 and 0.3.64; older and newer ones read in its source (server.py, execution.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import Any
from urllib.parse import quote, urlencode
from uuid import uuid4

from graycat.bounds.stored import parse_json
from graycat.engines.client import Call, EngineClient
from graycat.errors import EngineLost, EngineProtocolError
from graycat.images.places import is_place
from graycat.params import find_unpaired_surrogates

#: The most bytes of an answer that is read: JSON (a queue holds whole workflows), and a file that was made.
MAX_JSON_BYTES, MAX_FILE_BYTES = 64 * 1024 * 1024, 128 * 1024 * 1024
#: Seconds that it may be silent: a question, the start of a prompt (it validates all nodes), a file.
ASK_TIMEOUT_S, SUBMIT_TIMEOUT_S, FILE_TIMEOUT_S = 5.0, 30.0, 60.0
#: The first release that takes an id for a prompt from its client, and the first whose interrupt is for one prompt
#: only: an older one ignores the id, and ends whatever runs.
FIRST_OWN_IDS, FIRST_INTERRUPT_BY_ID = (0, 3, 45), (0, 3, 57)
_VERSION = re.compile(r"v?(\d{1,6})\.(\d{1,6})(?:\.(\d{1,6}))?")


@dataclass(frozen=True, slots=True)
class OutputFile:
    """A file that a node made, as ``/history`` names it."""

    filename: str
    subfolder: str
    folder: str


@dataclass(frozen=True, slots=True)
class History:
    """How a prompt ended: ``success``, ``error`` or ``interrupted``; the files and texts of each node by its id."""

    outcome: str
    files: Mapping[str, list[OutputFile]]
    texts: Mapping[str, list[str]]
    #: Of an error: the class of the node, its id, and the type of the exception. Never its message.
    failed_class: str = ""
    failed_node: str = ""
    exception: str = ""


def parse_version(text: object) -> tuple[int, int, int]:
    """Return a release as numbers; (0, 0, 0) if it is none, which counts as older than any."""
    found = _VERSION.match(text) if isinstance(text, str) else None
    if found is None:
        return (0, 0, 0)
    return int(found[1]), int(found[2]), int(found[3] or 0)


class ComfyWire:
    """Calls to one ComfyUI. All methods raise EngineLost, or EngineProtocolError for an answer that is not its own."""

    def __init__(self, client: EngineClient) -> None:
        self._client = client

    def version(self, timeout_s: float) -> tuple[int, tuple[int, int, int] | None]:
        """Return the status of ``/system_stats`` and the release that it tells; None if this is no ComfyUI."""
        status, body = self._get("/system_stats", timeout_s)
        try:
            system = parse_json(body)["system"]
            return status, parse_version(system["comfyui_version"])
        except (ValueError, KeyError, TypeError):
            return status, None

    def object_info(self, timeout_s: float = 30.0) -> dict[str, Any]:
        """Return all classes of nodes with their inputs (over half a megabyte)."""
        return self._get_object("/object_info", timeout_s)

    def embeddings(self) -> list[str]:
        """Return the names of embeddings; none if it has no such route."""
        status, body = self._get("/embeddings", ASK_TIMEOUT_S)
        names = _parse(body) if status == 200 else []
        return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []

    def submit(self, prompt: Mapping[str, Any], prompt_id: str, client_id: str, call: Call) -> tuple[int, Any]:
        """Send a workflow under an id; return the status and the JSON of the answer (None if it is not JSON).

        Sent once: there is no check of ids, so a second one would render a second time.
        """
        body = {
            "prompt": prompt,
            "prompt_id": prompt_id,
            "client_id": client_id,
            # Since 0.5.0; an older one needs the flag --preview-method.
            "extra_data": {"preview_method": "latent2rgb"},
        }
        with self._client.open(
            "POST", "/prompt", json.dumps(body).encode(), call=call, timeout_s=SUBMIT_TIMEOUT_S, once=True
        ) as response:
            raw = read_bounded(response, MAX_JSON_BYTES)
        try:
            return response.status, parse_json(raw)
        except ValueError:
            return response.status, None

    def is_queued(self, prompt_id: str) -> bool:
        """Return whether a prompt waits or runs."""
        queue = self._get_object("/queue", ASK_TIMEOUT_S)
        for name in ("queue_running", "queue_pending"):
            items = queue.get(name)
            if not isinstance(items, list):
                raise EngineProtocolError
            for item in items:
                # A neighbour's client may have sent anything; the id is the second of five parts.
                if isinstance(item, list) and len(item) > 1 and item[1] == prompt_id:
                    return True
        return False

    def history(self, prompt_id: str) -> History | None:
        """Return how a prompt ended; None while it waits or runs, or if it is unknown."""
        entry = self._get_object(f"/history/{quote(prompt_id)}", ASK_TIMEOUT_S).get(prompt_id)
        if entry is None:
            return None
        try:
            return _parse_history(entry)
        except (KeyError, TypeError, IndexError, AttributeError):
            raise EngineProtocolError from None

    def delete(self, prompt_id: str) -> None:
        """Take a prompt out of the queue, if it still waits there."""
        self._post("/queue", {"delete": [prompt_id]})

    def interrupt(self, prompt_id: str) -> None:
        """Interrupt a prompt if it is the one that runs. Only for FIRST_INTERRUPT_BY_ID and newer."""
        self._post("/interrupt", {"prompt_id": prompt_id})

    def free(self) -> None:
        """Have it unload its models and forget what it has cached, after what runs."""
        self._post("/free", {"unload_models": True, "free_memory": True})

    def upload(self, image: bytes, extension: str) -> str:
        """Upload an image under a random name; return the name that it has there, which a workflow may use."""
        # Same name, other bytes: it would be renamed; a name that nobody can guess is never taken.
        name = f"graycat-{uuid4().hex}.{extension}"
        boundary = uuid4().hex
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
        body = f"{head}Content-Type: application/octet-stream\r\n\r\n".encode() + image
        body += f"\r\n--{boundary}--\r\n".encode()
        call = Call()
        call.headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        with self._client.open("POST", "/upload/image", body, call=call, timeout_s=FILE_TIMEOUT_S) as response:
            raw = read_bounded(response, MAX_JSON_BYTES)
        answer = _parse(raw) if response.status == 200 else None
        if not isinstance(answer, dict) or answer.get("name") != name or answer.get("subfolder"):
            raise EngineProtocolError
        return name

    def download(self, file: OutputFile) -> bytes | None:
        """Return the bytes of a file that was made; None if it is gone."""
        query = urlencode({"filename": file.filename, "subfolder": file.subfolder, "type": file.folder})
        with self._client.open("GET", f"/view?{query}", timeout_s=FILE_TIMEOUT_S) as response:
            data = read_bounded(response, MAX_FILE_BYTES)
        if response.status == 404:
            return None
        if response.status != 200:
            raise EngineProtocolError
        return data

    def _post(self, path: str, body: Mapping[str, Any]) -> None:
        """Send a control call; its answer is empty, whatever it did."""
        with self._client.open("POST", path, json.dumps(body).encode(), timeout_s=ASK_TIMEOUT_S) as response:
            read_bounded(response, MAX_JSON_BYTES)

    def _get(self, path: str, timeout_s: float) -> tuple[int, bytes]:
        with self._client.open("GET", path, timeout_s=timeout_s) as response:
            body = read_bounded(response, MAX_JSON_BYTES)
        return response.status, body

    def _get_object(self, path: str, timeout_s: float) -> dict[str, Any]:
        status, body = self._get(path, timeout_s)
        value = _parse(body) if status == 200 else None
        if not isinstance(value, dict):
            raise EngineProtocolError
        return value


def read_bounded(response: HTTPResponse, most: int) -> bytes:
    """Return an answer's body. Raises EngineProtocolError if it is longer than ``most`` bytes, EngineLost if cut."""
    body = response.read(most + 1)
    if len(body) > most:
        raise EngineProtocolError
    # With a length given, http.client returns what there is when the connection ends early.
    if response.length:
        raise EngineLost
    return body


def _parse(body: bytes) -> Any:
    try:
        return parse_json(body)
    except ValueError:
        raise EngineProtocolError from None


def _parse_history(entry: Any) -> History:
    """Return an entry of ``/history``. Raises KeyError and others for what is none.

    An interrupted prompt has the status "error", as a failed one; the messages tell them apart.
    """
    status = entry["status"]
    outcome = status["status_str"]
    details: Mapping[str, Any] = {}
    for name, data in status["messages"]:
        if name == "execution_interrupted":
            outcome = "interrupted"
        elif name == "execution_error":
            # An error between two nodes leaves the status of the node before.
            outcome, details = "error", data
    if outcome not in ("success", "error", "interrupted"):
        raise KeyError(outcome)
    outputs: Mapping[str, Any] = entry["outputs"]
    return History(
        outcome,
        {node: [_parse_file(item) for item in output.get("images") or []] for node, output in outputs.items()},
        {node: _strings(output.get("text")) for node, output in outputs.items() if output.get("text")},
        failed_class=_name(details.get("node_type")),
        failed_node=_name(details.get("node_id")),
        exception=_name(details.get("exception_type")),
    )


def _parse_file(item: Any) -> OutputFile:
    """Return a file that a node made. Raises KeyError and others for what is none, also a name with a path in it."""
    file = OutputFile(str(item["filename"]), str(item.get("subfolder", "")), str(item.get("type", "output")))
    parts = file.subfolder.replace("\\", "/").split("/")
    if "/" in file.filename or "\\" in file.filename or ".." in (file.filename, *parts) or is_place(file.subfolder):
        raise KeyError("filename")
    if any(find_unpaired_surrogates([file.filename, file.subfolder, file.folder])):
        # No address can hold it.
        raise KeyError("filename")
    return file


def _strings(values: Any) -> list[str]:
    return [value for value in values if isinstance(value, str)] if isinstance(values, list) else []


def _name(value: object) -> str:
    """Return a name out of an error if it is a plain one; '' for all else, which might be a path or a message."""
    text = str(value or "")
    return text if re.fullmatch(r"[\w.:+ -]{1,100}", text) else ""
