"""Fixtures of the wire tests: one placeholder renderer that takes no time, one whose steps can be watched; ComfyUI."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.fakes.comfyui.options import DEFAULT_VERSION, VERSIONS
from tests.support.comfyui_wire import ComfyUI, at
from tests.support.comfyui_wire import running as running_comfyui
from tests.support.webui_wire import PLACEHOLDER, WebUI, running


@pytest.fixture(scope="session")
def webui() -> Iterator[WebUI]:
    with running(PLACEHOLDER, "--step-s", "0") as started:
        yield started


@pytest.fixture(scope="session")
def slow_webui() -> Iterator[WebUI]:
    with running(PLACEHOLDER, "--step-s", "0.02") as started:
        yield started


#: Where a real ComfyUI server is: then what the double has to hold is asked of that one, by hand. It needs
#: ``tests/support/comfyui_nodes.py`` in its ``custom_nodes``, ``--preview-method latent2rgb`` and one checkpoint.
REAL = os.environ.get("COMFYUI_REAL_URL")
PREVIEWS = ("--preview-method", "latent2rgb")


@pytest.fixture(scope="session")
def comfyui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyUI]:
    """A server whose release does not matter."""
    if REAL:
        yield at(REAL)
        return
    with running_comfyui(*PREVIEWS, base=tmp_path_factory.mktemp("comfyui")) as server:
        yield server


@pytest.fixture(scope="session", params=[REAL] if REAL else VERSIONS)
def release(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyUI]:
    """Servers of all releases whose habits differ."""
    if REAL:
        yield at(REAL)
    elif request.param == DEFAULT_VERSION:
        yield request.getfixturevalue("comfyui")
    else:
        options = ("--comfyui-version", request.param, *PREVIEWS)
        with running_comfyui(*options, base=tmp_path_factory.mktemp("comfyui")) as server:
            yield server
