"""A request that ends its engine's process is found out, and its neighbours are not charged for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes.llama_server import DEADLY
from tests.support.processes import eventually
from tests.support.supervised import Supervised, supervised

#: Seconds until everything has ended, on a machine that is busy.
ENDED_S = 60.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervised]:
    """Yield a stack whose fake engine takes a tenth of a second for each token."""
    with supervised(tmp_path_factory.mktemp("deadly"), "--interval 0.1") as started:
        yield started


def submit(stack: Supervised, name: str, prompt: str, tokens: int = 5) -> None:
    body = {"kind": "llm.completion", "input": {"prompt": prompt, "n_predict": tokens}}
    reply = stack.client().request("PUT", f"/tasks/{name}", json=body)
    assert reply.status_code in (201, 202), reply.text


def ended(stack: Supervised, name: str) -> dict[str, Any]:
    """Return the view of a task once it has ended."""

    def look() -> dict[str, Any] | None:
        view: dict[str, Any] = stack.client().get(f"/tasks/{name}").json()
        return view if view["state"] in ("succeeded", "failed", "cancelled", "expired") else None

    view = eventually(look, ENDED_S)
    assert view is not None
    return view


def test_the_culprit_fails_and_its_neighbours_succeed(stack: Supervised) -> None:
    for number in range(3):
        submit(stack, f"neighbour-{number}", f"hello {number}", tokens=20)
    submit(stack, "culprit", f"{DEADLY} request")
    culprit = ended(stack, "culprit")
    assert (culprit["state"], culprit["error"]["type"]) == ("failed", "engine_killed")
    for number in range(3):
        view = ended(stack, f"neighbour-{number}")
        assert view["state"] == "succeeded", (view["error"], view["attempt"])


def test_two_culprits_are_both_found(stack: Supervised) -> None:
    for number in range(2):
        submit(stack, f"culprit-{number}", f"{DEADLY} {number}")
        submit(stack, f"innocent-{number}", f"hello {number}", tokens=20)
    for number in range(2):
        assert ended(stack, f"culprit-{number}")["error"]["type"] == "engine_killed"
        assert ended(stack, f"innocent-{number}")["state"] == "succeeded"


def test_afterwards_the_engine_is_shared_again(stack: Supervised) -> None:
    stack.wait_until_consuming()
    for number in range(4):
        submit(stack, f"later-{number}", f"later {number}", tokens=30)
    eventually(lambda: stack.row().get("busy") == 4, ENDED_S)
    for number in range(4):
        assert ended(stack, f"later-{number}")["state"] == "succeeded"
