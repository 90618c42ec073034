"""Stacks with an image engine, whose renders can be counted, and callers with API tokens of their own."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import webuiapi
from PIL import Image

from tests.fakes.webui import ASKED
from tests.support.processes import eventually
from tests.support.stack import REQUEST_S, Client, Stack

DOUBLE = "tests.fakes.webui"
#: Owners of the API tokens; the last one may change the engines' settings.
ANNA, BERT, ADMIN = OWNERS = ("anna", "bert", "root")
#: Seconds that one sampling step takes.
STEP_S = 0.02
#: Seconds that anything gets which takes a second on an idle machine.
PATIENCE_S = 180.0

#: A small image at once, and one that takes seconds: each batch has as many steps as a request may ask for.
QUICK: dict[str, Any] = {"width": 64, "height": 64, "steps": 1}
SLOW: dict[str, Any] = {"width": 64, "height": 64, "steps": 150, "n_iter": 8}


def start_command(**options: Any) -> str:
    """Return the command that starts the test double; the options are its own."""
    words = [f"--{name.replace('_', '-')} {value}" for name, value in ({"step_s": STEP_S} | options).items()]
    return f"{sys.executable} -m {DOUBLE} --port {{port}} {' '.join(words)}"


class ImageStack(Stack):
    """A running graycat that serves images and no text. ``engine``: options of the test double."""

    def __init__(
        self, home: Path, *, separately: bool = False, env: Mapping[str, str] | None = None, **engine: Any
    ) -> None:
        self.tokens = {owner: f"{owner}-{uuid4().hex}" for owner in OWNERS}
        given = {"RUN_LLM": "false", "RUN_SD": "true", "SD_STARTUP_COMMAND": start_command(**engine)}
        given |= {"API_TOKENS": ",".join(f"{owner}:{secret}" for owner, secret in self.tokens.items())}
        super().__init__(home, separately=separately, env=given | {"GRAYCAT_ADMINS": ADMIN} | dict(env or {}))
        self.token = self.tokens[ANNA]
        self._apis: list[Any] = []

    def caller(self, owner: str) -> Client:
        """Return a client with this owner's API token."""
        self._clients.append(Client(self.url, self.tokens[owner]))
        return self._clients[-1]

    def engine(self) -> Client:
        """Return a client of the bare image engine."""
        self._clients.append(Client(self.sd_url))
        return self._clients[-1]

    def webuiapi(self, owner: str = "") -> Any:
        """Return the client that others use: of graycat, or of the bare engine for nobody."""
        api = webuiapi.WebUIApi(port=self.port if owner else self.sd_port)
        if owner:
            api.set_auth("any name", self.tokens[owner])
        self._apis.append(api)
        return api

    def engine_pid(self) -> int | None:
        """Return the image engine's process id; None when it does not run."""
        return self._pid_of(f" -m {DOUBLE} ")

    def asked(self) -> list[str]:
        """Return the prompts that the engine was ever asked for, in order."""
        lines = (self.home / "log" / "sd-engine.log").read_text().splitlines()
        return [line.removeprefix(ASKED).strip() for line in lines if line.startswith(ASKED)]

    def stored(self, task_id: str = "*") -> list[str]:
        """Return the broker's keys of finished images, their descriptions included."""
        return sorted(self.redis().keys(f"graycat:artifact*:{task_id}*"))

    def stop(self) -> None:
        """Stop it as Ctrl-C does."""
        for api in self._apis:
            api.session.close()
        self._apis.clear()
        super().stop()


class Order:
    """A request for images that can be watched by its record, read, and hung up."""

    def __init__(self, stack: ImageStack, owner: str, body: dict[str, Any], path: str = "/sdapi/v1/txt2img") -> None:
        self._stack = stack
        self.id = uuid4().hex
        self.connection = HTTPConnection("127.0.0.1", stack.port, timeout=REQUEST_S)
        headers = {"Content-Type": "application/json", "X-Request-ID": self.id}
        headers |= {"Authorization": f"Bearer {stack.tokens[owner]}"}
        self.connection.request("POST", path, json.dumps(body), headers)

    @property
    def record(self) -> dict[str, str]:
        """Return its task's record; empty while there is none."""
        return self._stack.record(self.id)

    @property
    def task_id(self) -> str:
        """Return its task's id."""
        return eventually(lambda: self._stack.task_id(self.id), PATIENCE_S)

    def wait_for(self, state: str) -> None:
        """Return when its task is in this state."""
        eventually(lambda: self.record.get("state") == state, PATIENCE_S)

    def wait_for_progress(self) -> None:
        """Return when its engine has told how far it is."""
        eventually(lambda: "progress" in self.record, PATIENCE_S)

    def read(self) -> Any:
        """Return the reply, which must be one of success."""
        response = self.connection.getresponse()
        body = response.read()
        assert response.status == 200, body
        return json.loads(body)

    def __enter__(self) -> Order:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()


@dataclass(frozen=True)
class Picture:
    """An image as it came, and what it says of itself."""

    data: bytes
    image: Image.Image

    @classmethod
    def of(cls, data: bytes | str) -> Picture:
        """Return the picture that a file's bytes, or their base64, are; decoded to the last pixel."""
        whole = base64.b64decode(data, validate=True) if isinstance(data, str) else data
        image = Image.open(BytesIO(whole))
        image.load()
        return cls(whole, image)

    @property
    def base64(self) -> str:
        """Return it as base64."""
        return base64.b64encode(self.data).decode()

    @property
    def prompt(self) -> str:
        """Return the prompt that it was made from."""
        return str(self.image.info["parameters"]).partition("\n")[0]


def png(width: int = 64, height: int = 64, colour: str = "red") -> str:
    """Return a plain image as base64 of a PNG."""
    return encoded(Image.new("RGB", (width, height), colour))


def encoded(image: Image.Image) -> str:
    """Return an image as base64 of a PNG."""
    file = BytesIO()
    image.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
