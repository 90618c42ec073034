"""The real programs with the configurations that graycat prints, in front of a server that only tells what it gets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from graycat.edge.config import NGINX, PROGRAMS
from graycat.edge.render import ERRORS, REQUEST_ID
from graycat.web.middleware.request import REQUEST_ID as REQUEST_ID_OF_WEB
from tests.support.boxes import certificates
from tests.support.edges import Certificates, Edge, command_of, edge_config, running_edge
from tests.support.helpers import run
from tests.support.ports import free_ports
from tests.support.servers import Seen, hold, http_server, reply

# What graycat itself does here is covered by the tests of its modules.
pytestmark = pytest.mark.not_covered

GAME, OTHER = "https://game.example", "http://localhost:8080"
#: Twice as much is sent together with the head. curl 7.88 does not read an answer that comes before the body's end.
LIMIT_BYTES = 3_000
SECRETS = ("-H", "Authorization: Bearer SECRET", "-H", "X-Api-Key: SECRET")
ENV = {
    "GRAYCAT_MAX_BODY_BYTES": "1000",
    "GRAYCAT_MAX_IMAGE_BODY_BYTES": str(LIMIT_BYTES),
    "GRAYCAT_CORS_ORIGINS": f"{GAME},{OTHER}",
}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates(tmp_path_factory.mktemp("certificates") / "edge", "127.0.0.1", "::1")


@pytest.fixture(scope="module")
def server() -> Iterator[Seen]:
    """Yield the server behind the proxies."""
    answers = {"GET /health": reply(200, {}), "POST /echo": reply(200, {"from": "server"}), "POST /slow": hold}
    with http_server(answers) as seen:
        yield seen


@pytest.fixture(scope="module", params=PROGRAMS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def env_of(port: int) -> dict[str, str]:
    """Return the settings of a graycat with a port."""
    (proxy_port,) = free_ports(1)
    return ENV | {"PORT": str(port), "GRAYCAT_PROXY_PROTOCOL_PORT": str(proxy_port)}


@pytest.fixture(scope="module")
def edge(
    kind: str, server: Seen, certificate: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Edge]:
    env = env_of(urlsplit(server.url).port or 0)
    with running_edge(kind, tmp_path_factory.mktemp(kind), certificate, env, longest_wait_s=1) as found:
        yield found


def last_headers(server: Seen) -> Any:
    """Return the headers of the last request that is no health check."""
    paths = [path for _, path, _ in server.requests]
    return server.headers[len(paths) - 1 - paths[::-1].index("/echo")]


@pytest.mark.parametrize("servers", [("127.0.0.1", "::1"), ("localhost",)])
def test_the_program_takes_its_configuration(
    kind: str, servers: tuple[str, ...], certificate: Certificates, tmp_path: Path
) -> None:
    env = env_of(8000) | {"HOST": "::", "GRAYCAT_FORWARDED_FROM": "127.0.0.1,::1,10.0.0.9"}
    env["GRAYCAT_TRUSTED_ADDRESSES"] = env["GRAYCAT_FORWARDED_FROM"]
    text = edge_config(kind, certificate, env | {"GRAYCAT_PUBLIC_URL": "https://play.example/gpu"}, servers)
    (tmp_path / "proxy.conf").write_text(text)
    checked = run(command_of(kind, tmp_path / "proxy.conf", check=True))
    assert checked.returncode == 0, checked.stderr
    assert "[warn]" not in checked.stderr
    assert "[WARNING]" not in checked.stderr


@pytest.mark.parametrize(
    "changes",
    [
        {"GRAYCAT_CORS_ORIGINS": ",".join(f"https://page{number}.example" for number in range(1000))},
        {"GRAYCAT_CORS_ORIGINS": f"https://{'a' * 63}.{'b' * 63}.example,https://[::1]:3000,a+b://c"},
        {f"GRAYCAT_{name}_TIMEOUT_S": "1e300" for name in ("HEAD", "BODY", "WRITE", "IDLE")}
        | {"GRAYCAT_MAX_CONNECTIONS": "9" * 12, "GRAYCAT_MAX_CONNECTIONS_PER_ADDRESS": "9" * 12}
        | {"GRAYCAT_MAX_BODY_BYTES": "9" * 30},
        {f"GRAYCAT_{name}_TIMEOUT_S": "1e-300" for name in ("HEAD", "BODY", "WRITE", "IDLE")},
    ],
    ids=["many origins", "odd origins", "huge", "tiny"],
)
def test_the_program_takes_all_that_settings_may_be(
    kind: str, changes: dict[str, str], certificate: Certificates, tmp_path: Path
) -> None:
    text = edge_config(kind, certificate, env_of(8000) | {"GRAYCAT_PUBLIC_URL": "https://play.example"} | changes)
    (tmp_path / "proxy.conf").write_text(text)
    checked = run(command_of(kind, tmp_path / "proxy.conf", check=True))
    assert checked.returncode == 0, checked.stderr
    assert "[warn]" not in checked.stderr
    assert "[WARNING]" not in checked.stderr


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_a_request_comes_over_http_2_and_says_whose_it_is(edge: Edge, server: Seen, host: str) -> None:
    claims = ("-H", "X-Forwarded-For: 192.0.2.7", "-H", "X-Forwarded-Proto: http", "-H", "Forwarded: for=192.0.2.7")
    answer = edge.curl("/echo", "-d", "{}", *claims, host=host)
    assert (answer.status, answer.version, answer.body) == (200, "2", b'{"from": "server"}')
    seen = last_headers(server)
    assert (seen["x-forwarded-for"], seen["x-forwarded-proto"]) == (host.strip("[]"), "https")
    assert "forwarded" not in seen
    assert seen["host"] == f"{host}:{edge.port}"
    assert answer.headers["strict-transport-security"] == "max-age=31536000"


def test_a_request_id_is_passed_on_or_made(edge: Edge, server: Seen) -> None:
    assert f"^{REQUEST_ID_OF_WEB.pattern}$" == REQUEST_ID
    found = []
    for given in ((), ("-H", "X-Request-ID: a.b-1"), ("-H", f"X-Request-ID: {'x' * 65}")):
        edge.curl("/echo", "-d", "{}", *given)
        found.append(last_headers(server)["x-request-id"])
    made, passed, replaced = found
    assert passed == "a.b-1"
    assert made != replaced
    assert REQUEST_ID_OF_WEB.fullmatch(made)
    assert REQUEST_ID_OF_WEB.fullmatch(replaced)


def test_a_body_is_refused_by_graycat_or_in_its_form(edge: Edge, tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(b"x" * LIMIT_BYTES)
    sent = ("-H", "Expect:", "--data-binary", f"@{tmp_path}/body", "-H", f"Origin: {OTHER}")
    assert edge.curl("/echo", *sent).body == b'{"from": "server"}'
    (tmp_path / "body").write_bytes(b"x" * (2 * LIMIT_BYTES))
    answer = edge.curl("/echo", *sent)
    if edge.kind == NGINX:
        check_error(answer, 413)
    else:
        assert answer.body == b'{"from": "server"}'


def check_error(answer: Any, status: int) -> None:
    """Check that an error is in graycat's form, and that the page of an allowed origin may read it."""
    kind, _ = ERRORS[status]
    assert (answer.status, answer.error["code"], answer.error["type"]) == (status, status, kind)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["access-control-allow-origin"] == OTHER
    assert answer.headers["vary"] == "Origin"
    assert "access-control-allow-credentials" not in answer.headers
    assert answer.headers["strict-transport-security"] == "max-age=31536000"
    assert REQUEST_ID_OF_WEB.fullmatch(answer.headers["x-request-id"])


def test_the_time_out_is_that_of_the_settings_and_said_in_json(edge: Edge) -> None:
    check_error(edge.curl("/slow", "-d", "{}", "-H", f"Origin: {OTHER}"), 504)


def test_a_page_of_another_origin_may_not_read_errors_of_the_proxy(edge: Edge) -> None:
    answer = edge.curl("/slow", "-d", "{}", "-H", "Origin: https://evil.example")
    assert (answer.status, "access-control-allow-origin" in answer.headers) == (504, False)


def test_a_server_that_is_down_is_said_in_json(kind: str, certificate: Certificates, tmp_path: Path) -> None:
    with running_edge(kind, tmp_path, certificate, env_of(*free_ports(1))) as alone:
        # Without a body: HAProxy may end the stream of an answer before curl has sent one.
        answer = alone.curl("/echo?signature=SECRET", "-H", f"Origin: {OTHER}", *SECRETS)
        check_error(answer, answer.status)
        assert (answer.status in (502, 503), answer.headers["retry-after"]) == (True, "2")
        # An API token is one in either header.
        assert "SECRET" not in (tmp_path / "log").read_text()
