from __future__ import annotations

import gevent
import pytest
from flask.testing import FlaskClient

from graycat.engines.placeholder import bodies
from graycat.engines.placeholder.app import IDLE_CALLS, create_app
from graycat.engines.placeholder.catalog import LISTS
from graycat.engines.placeholder.renderer import Renderer
from graycat.engines.placeholder.schema import replace_defaults


@pytest.fixture
def renderer() -> Renderer:
    return Renderer(0)


@pytest.fixture
def client(renderer: Renderer) -> FlaskClient:
    return create_app(renderer).test_client()


@pytest.mark.parametrize("name", LISTS)
def test_every_list_is_served(client: FlaskClient, name: str) -> None:
    assert client.get(f"/sdapi/v1/{name}").json == LISTS[name]


@pytest.mark.parametrize(("name", "answer", "waits"), IDLE_CALLS)
def test_calls_that_do_nothing(client: FlaskClient, renderer: Renderer, name: str, answer: object, waits: bool) -> None:
    with renderer.jobs.run("job"):
        calling = gevent.spawn(client.post, f"/sdapi/v1/{name}")
        gevent.sleep(0)
        assert calling.ready() is not waits
    assert calling.get(timeout=5).json == answer


def test_flags_are_set(client: FlaskClient, renderer: Renderer) -> None:
    assert client.post("/sdapi/v1/interrupt").json == {}
    assert client.post("/sdapi/v1/skip").json is None
    assert (renderer.jobs.state.interrupted, renderer.jobs.state.skipped) == (True, True)


def test_other_defaults_can_be_served(renderer: Renderer) -> None:
    client = create_app(renderer, replace_defaults(bodies.TXT2IMG, steps=1, width=64, height=64)).test_client()
    answer = client.post("/sdapi/v1/txt2img", json={}).json
    assert answer is not None
    assert (answer["parameters"]["steps"], answer["parameters"]["width"]) == (1, 64)


def test_the_query_of_progress_is_read(client: FlaskClient) -> None:
    for query, status in (("", 200), ("?skip_current_image=YES", 200), ("?skip_current_image=", 422)):
        assert client.get(f"/sdapi/v1/progress{query}").status_code == status
