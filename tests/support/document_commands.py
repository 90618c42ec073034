"""Runs the commands of /openapi.json as a reader would, in a shell; only answers are shorter."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

from tests.support.stack import Client

#: The lengths of answers, the sizes of images and the steps to them.
LENGTH = re.compile(r'("(?:n_predict|max_tokens|max_output_tokens|steps)": )\d+')
SIZE = re.compile(r'("(?:width|height)": )\d+')
OPTIONS = "curl -s -o /dev/null -w %{http_code} --max-time 200"


def run(client: Client, command: str) -> int:
    """Run a command; return the status that it was answered with."""
    variables = {"GRAYCAT": client.url, "TOKEN": str(client.session.headers["Authorization"]).split()[-1]}
    command = command.replace("curl", OPTIONS, 1).replace("512x512", "64x64")
    command = SIZE.sub(r"\g<1>64", LENGTH.sub(r"\g<1>2", command))
    done = subprocess.run(
        ["bash", "-c", command], env=os.environ | variables, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return int(done.stdout)


def run_groups(
    client: Client, groups: frozenset[str], otherwise: Mapping[str, set[int]], values: Mapping[str, str] | None = None
) -> list[str]:
    """Run the commands of groups of operations, and check that each is answered as the document tells.

    ``otherwise``: the statuses of operations that do not succeed. ``values``: what to put in the place of some words.
    Returns the names of the operations.
    """
    document: dict[str, Any] = client.get("/openapi.json").json()
    ran = []
    # What is removed is asked for before.
    commands = sorted(_commands(document, groups), key=lambda pair: "curl -X DELETE" in pair[1])
    for operation, command in commands:
        status = run(client, _fill(command, values or {}))
        name = operation["operationId"]
        assert status in otherwise.get(name, {200, 201, 202}), f"{name}: {status}: {command}"
        assert str(status) in operation["responses"], command
        ran.append(name)
    return ran


def _commands(document: dict[str, Any], groups: frozenset[str]) -> Iterator[tuple[dict[str, Any], str]]:
    for operations in document["paths"].values():
        for operation in operations.values():
            if groups & set(operation["tags"]):
                yield operation, operation["x-codeSamples"][0]["source"]


def _fill(command: str, values: Mapping[str, str]) -> str:
    for word, value in values.items():
        command = command.replace(word, value)
    return command
