from __future__ import annotations

import pytest

from graycat.settings import Settings
from graycat.web import create_app
from tests.unit.helpers import BEARER, SECRET
from tests.unit.web.conftest import client_of

PROTECTED = [
    ("POST", "/completion"),
    ("POST", "/tokenize"),
    ("POST", "/detokenize"),
    ("POST", "/apply-template"),
    ("POST", "/props"),
    ("GET", "/props"),
    ("POST", "/health"),
]
STRANGERS = [
    {},
    {"Authorization": ""},
    {"Authorization": "Bearer"},
    {"Authorization": "Bearer "},
    {"Authorization": "Bearer wrong-secret"},
    {"Authorization": f"Bearer {SECRET}x"},
    {"Authorization": f"Bearer {SECRET[:-1]}"},
    {"Authorization": f"Bearer tests:{SECRET}"},
    {"Authorization": "Bearer \xfc\xff"},
    {"Authorization": f"Basic {SECRET}"},
    {"Authorization": SECRET},
    {"X-Api-Key": SECRET},
    {"Cookie": f"token={SECRET}"},
]


@pytest.fixture
def stranger(web):
    """Return a client without an API token."""
    del web.environ_base["HTTP_AUTHORIZATION"]
    return web


@pytest.mark.parametrize("headers", STRANGERS, ids=str)
def test_who_has_no_api_token_is_sent_away(stranger, headers: dict[str, str]) -> None:
    response = stranger.post("/completion", json={"prompt": "Hi"}, headers=headers)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer")
    error = response.get_json()["error"]
    assert (error["code"], error["type"]) == (401, "authentication_error")
    assert "Authorization: Bearer" in error["message"]


@pytest.mark.parametrize(("method", "path"), PROTECTED)
def test_every_route_that_costs_something_asks_for_it(stranger, client, method: str, path: str) -> None:
    assert stranger.open(f"{path}?api_key={SECRET}", method=method, json={"prompt": "Hi"}).status_code == 401
    assert client.keys("*") == []


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_probes_need_none(stranger, path: str) -> None:
    assert stranger.get(path).status_code in (200, 503)


def test_a_stranger_s_body_is_not_read(stranger) -> None:
    assert stranger.post("/completion", data=b"no JSON").status_code == 401


def test_the_generated_token_lets_its_owner_in(broker, tmp_path) -> None:
    settings = Settings(home=tmp_path, redis_url=broker.settings.broker_url)
    web = client_of(create_app(settings))
    secret = (tmp_path / "api-token").read_text().strip()
    for given, status in ((secret, 400), (SECRET, 401)):
        assert web.post("/completion", data=b"", headers={"Authorization": f"Bearer {given}"}).status_code == status


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_is_read_in_any_case(stranger, scheme: str) -> None:
    headers = {"Authorization": f"{scheme} {SECRET}"}
    assert stranger.post("/completion", data=b"", headers=headers).status_code == 400


WEBUI = [
    ("POST", "/sdapi/v1/txt2img"),
    ("POST", "/sdapi/v1/img2img"),
    ("POST", "/sdapi/v1/options"),
    ("POST", "/sdapi/v1/png-info"),
    ("POST", "/sdapi/v1/interrupt"),
    ("GET", "/sdapi/v1/samplers"),
    ("GET", "/sdapi/v1/options"),
    ("GET", "/sdapi/v1/progress"),
]


@pytest.mark.parametrize(("method", "path"), WEBUI)
@pytest.mark.parametrize(
    "login", [None, ("me", "wrong-secret"), ("me", ""), (SECRET, ""), (SECRET, "me"), ("tests", f"{SECRET}x")], ids=str
)
def test_the_webui_s_routes_send_strangers_away_in_its_own_words(
    stranger, client, method: str, path: str, login
) -> None:
    response = stranger.open(path, method=method, json={}, auth=login)
    assert (response.status_code, response.json["error"]) == (401, "HTTPException")
    assert "API token" in response.json["detail"]
    assert client.keys("*") == []


@pytest.mark.parametrize(("method", "path"), WEBUI)
@pytest.mark.parametrize("user", ["me", "", "tests", "grün"])
def test_webui_clients_may_send_the_api_token_as_their_password(stranger, method: str, path: str, user: str) -> None:
    headers = {"Prefer": "respond-async"}
    assert stranger.open(path, method=method, json={}, auth=(user, SECRET), headers=headers).status_code != 401
    assert stranger.open(path, method=method, json={}, headers=BEARER | headers).status_code != 401


@pytest.mark.parametrize("given", ["Basic", "Basic ", "Basic !!!", "Basic bWU=", "Basic \xfc", "Digest me", "Bearer"])
def test_a_login_that_cannot_be_read_is_none(stranger, given: str) -> None:
    assert stranger.get("/sdapi/v1/progress", headers={"Authorization": given}).status_code == 401


def test_who_came_by_password_owns_what_it_asks_for(stranger, take) -> None:
    stranger.post("/sdapi/v1/txt2img", json={}, auth=("me", SECRET), headers={"Prefer": "respond-async"})
    assert take("sd").owner == "tests"


@pytest.mark.parametrize(("method", "path"), PROTECTED)
def test_other_routes_take_no_password(stranger, method: str, path: str) -> None:
    assert stranger.open(path, method=method, json={"prompt": "Hi"}, auth=("me", SECRET)).status_code == 401


def test_an_admin_by_password_is_an_admin(web_with, report) -> None:
    web = web_with(admins="tests")
    del web.environ_base["HTTP_AUTHORIZATION"]
    assert web.post("/sdapi/v1/options", json={}, auth=("me", SECRET)).status_code == 503
