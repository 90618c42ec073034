from __future__ import annotations

from base64 import b64encode

import pytest

from graycat.auth.minted import Grant, MintedTokens
from graycat.auth.signing import SigningKey
from graycat.settings import Settings
from graycat.web import create_app
from graycat.web.services import services_of
from tests.support.helpers import BEARER, SECRET, changed
from tests.unit.web.conftest import client_of

ASYNC = {"Prefer": "respond-async"}

PROTECTED = [
    ("POST", "/completion"),
    ("POST", "/tokenize"),
    ("POST", "/detokenize"),
    ("POST", "/apply-template"),
    ("POST", "/props"),
    ("GET", "/props"),
    ("POST", "/health"),
    ("POST", "/tokens"),
    ("GET", "/tokens"),
    ("POST", "/tokens/player"),
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
    {"X-Api-Key": ""},
    {"X-Api-Key": f"{SECRET}x"},
    {"X-Api-Key": "\xfc\xff"},
    {"Cookie": f"token={SECRET}"},
]


@pytest.fixture
def stranger(web):
    """Return a client without an API token."""
    del web.environ_base["HTTP_AUTHORIZATION"]
    return web


@pytest.mark.parametrize("headers", STRANGERS, ids=str)
def test_a_request_without_a_token_is_refused(stranger, headers: dict[str, str]) -> None:
    response = stranger.post("/completion", json={"prompt": "Hi"}, headers=headers)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer")
    error = response.get_json()["error"]
    assert error["code"] == 401
    assert error["type"] in ("authentication_error", "token_unknown")
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


#: What each scope opens.
SCOPED = [
    ("llm", "POST", "/completion"),
    ("llm", "POST", "/v1/chat/completions"),
    ("llm", "POST", "/tokenize"),
    ("llm", "GET", "/slots"),
    ("llm", "GET", "/props"),
    ("llm", "POST", "/template"),
    ("llm", "GET", "/v1/models"),
    ("sd", "POST", "/sdapi/v1/txt2img"),
    ("sd", "POST", "/sdapi/v1/png-info"),
    ("sd", "GET", "/sdapi/v1/progress"),
    ("sd", "GET", "/sdapi/v1/samplers"),
    ("sd", "POST", "/sdapi/v1/interrupt"),
    ("sd", "POST", "/generate-image"),
    ("sd", "POST", "/v1/images/generations"),
    ("sd", "POST", "/v1/images/edits"),
    ("admin", "POST", "/lora-adapters"),
    ("admin", "POST", "/sdapi/v1/options"),
]


def with_scopes(web, *scopes: str) -> dict[str, str]:
    """Return the headers of a caller with certain scopes."""
    secret, _ = services_of(web.application).authenticator.mint(Grant("-".join(scopes), frozenset(scopes)))
    return {"Authorization": f"Bearer {secret}"}


@pytest.mark.parametrize(("scope", "method", "path"), SCOPED)
def test_a_route_opens_to_its_scope_only(web, client, scope: str, method: str, path: str) -> None:
    others = with_scopes(web, *({"llm", "sd", "batch", "admin"} - {scope}))
    refused = web.open(path, method=method, data=b"no JSON", headers=others)
    assert refused.status_code == 403
    assert f"'{scope}'" in refused.text
    allowed = web.open(path, method=method, data=b"no JSON", headers=with_scopes(web, scope) | ASYNC)
    assert allowed.status_code != 403
    assert client.keys("graycat:task:*") == [] or path == "/slots"


@pytest.mark.parametrize(
    ("scopes", "body", "status"),
    [
        (["llm"], {"kind": "llm.completion", "input": {"prompt": "Hi"}}, 202),
        (["llm"], {"kind": "sd.txt2img", "input": {"prompt": "a cat"}}, 403),
        (["sd"], {"kind": "llm.completion", "input": {"prompt": "Hi"}}, 403),
        (["sd"], {"kind": "sd.txt2img", "input": {"prompt": "a cat"}}, 202),
        (["sd"], {"kind": "sd.txt2img", "input": {"prompt": "a cat"}, "priority": "batch"}, 403),
        (["batch", "sd"], {"kind": "sd.txt2img", "input": {"prompt": "a cat"}, "priority": "batch"}, 202),
        (["batch"], {"kind": "sd.txt2img", "input": {"prompt": "a cat"}, "priority": "batch"}, 403),
    ],
)
def test_a_task_needs_the_scope_of_its_kind_and_priority(web, scopes, body, status: int) -> None:
    assert web.post("/tasks", json=body, headers=with_scopes(web, *scopes)).status_code == status


def test_a_token_may_come_as_a_password(web) -> None:
    secret = with_scopes(web, "sd")["Authorization"].removeprefix("Bearer ")
    basic = b64encode(f"anybody:{secret}".encode()).decode()
    response = web.get("/sdapi/v1/progress", headers={"Authorization": f"Basic {basic}"})
    assert response.status_code == 200


#: How a browser marks requests that a page of another origin makes it send, with the password that it remembers.
CROSS_ORIGIN = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost.evil.example", "Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
]


@pytest.mark.parametrize("marks", CROSS_ORIGIN, ids=str)
@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded"])
@pytest.mark.parametrize("path", ["/sdapi/v1/txt2img", "/sdapi/v1/unload-checkpoint", "/sdapi/v1/interrupt"])
def test_a_page_of_another_origin_cannot_use_a_password_that_the_browser_knows(
    web, client, path: str, content_type: str, marks: dict[str, str]
) -> None:
    basic = b64encode(f"anybody:{SECRET}".encode()).decode()
    headers = {"Authorization": f"Basic {basic}", "Content-Type": content_type, **marks, **ASYNC}
    refused = web.post(path, data='{"prompt": "a cat"}', headers=headers)
    assert (refused.status_code, refused.get_json()["type"]) == (403, "permission_error")
    assert client.keys("graycat:task:*") == []
    # A page that holds the token sends it itself.
    assert web.post("/sdapi/v1/interrupt", headers={**marks, **BEARER}).status_code == 200


@pytest.mark.parametrize("origin", [None, "http://localhost", "https://play.example:8443"])
def test_programs_and_pages_of_the_server_itself_may_send_a_password(broker, origin: str | None) -> None:
    web = client_of(create_app(changed(broker.settings, public_url="https://play.example:8443/gpu")))
    basic = b64encode(f"anybody:{SECRET}".encode()).decode()
    headers = {"Authorization": f"Basic {basic}"}
    if origin is not None:
        headers["Origin"] = origin
    assert web.post("/sdapi/v1/interrupt", headers=headers).status_code == 200


def test_without_a_broker_configured_tokens_still_work(web_without_broker, no_broker: Settings, broker) -> None:
    # Minted with this server's key, while it had a broker.
    minted = MintedTokens(broker.client, SigningKey.from_settings(no_broker))
    secret, _ = minted.mint(Grant("game"))
    statuses = [
        web_without_broker.post("/completion", data=b"", headers={"Authorization": f"Bearer {given}"}).status_code
        for given in (secret, SECRET, "gc_" + "x" * 60)
    ]
    assert statuses == [503, 400, 401]


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


def test_a_caller_by_password_owns_its_tasks(stranger, take) -> None:
    stranger.post("/sdapi/v1/txt2img", json={}, auth=("me", SECRET), headers={"Prefer": "respond-async"})
    assert take("sd").owner == "tests"


@pytest.mark.parametrize(("method", "path"), PROTECTED)
def test_other_routes_take_no_password(stranger, method: str, path: str) -> None:
    assert stranger.open(path, method=method, json={"prompt": "Hi"}, auth=("me", SECRET)).status_code == 401


def test_an_admin_by_password_is_an_admin(web_with, report) -> None:
    web = web_with(admins="tests")
    del web.environ_base["HTTP_AUTHORIZATION"]
    assert web.post("/sdapi/v1/options", json={}, auth=("me", SECRET)).status_code == 503
