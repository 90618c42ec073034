"""A graycat behind real proxies that end TLS, and before real browsers' pages of other sites."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from bench.fake import fake_engine
from graycat.edge.config import PROGRAMS, WITH_TCP
from tests.support.boxes import certificates
from tests.support.browser import Window
from tests.support.edges import Certificates, Edge, running_edge
from tests.support.processes import SLACK_S, eventually
from tests.support.stack import ROOT, Stack, free_ports, running
from tests.support.unity import V3Reader, send_post

TOKENS = 60
INTERVAL_S = 0.03
#: Connections that one address may have.
LIMIT = 3
#: The largest body of a request for images.
MOST_BYTES = 8 * 1024 * 1024
STORY = {"prompt": "x", "n_predict": TOKENS, "stream": True}
WEBGL = ROOT / "examples" / "unity" / "webgl"
PAGE = b"<!doctype html><title>a game</title><p id=text></p><img id=picture>"

#: What a page of another site does with a player's token: streams, submits, polls, shows an image. Returns what it saw.
PLAY = """async ([url, token]) => {
  const headers = {Authorization: `Bearer ${token}`, "Content-Type": "application/json"};
  const post = (path, body, more = {}) =>
    fetch(url + path, {method: "POST", headers: {...headers, ...more}, body: JSON.stringify(body)});
  const seen = {};
  const stream = await post("/completion", {prompt: "x", n_predict: 60, stream: true});
  let text = "", pieces = 0;
  const reader = stream.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let next = await reader.read(); !next.done; next = await reader.read()) { text += next.value; pieces += 1; }
  seen.stream = [stream.status, text.includes('"stop": true') || text.includes('"stop":true'), pieces > 1];
  const refused = await post("/completion", {prompt: 5});
  seen.error = [refused.status, (await refused.json()).error.type, Boolean(refused.headers.get("X-Request-ID"))];
  const unknown = await fetch(url + "/tasks", {headers: {Authorization: "Bearer wrong"}});
  seen.unauthorized = [unknown.status, (await unknown.json()).error.type];
  const accepted = await post("/tasks", {kind: "sd.txt2img", input: {prompt: "a fox", width: 64, height: 64, steps: 1}},
    {"Idempotency-Key": "page-1"});
  const own = accepted.headers.get("Location");
  seen.accepted = [accepted.status, own === (await accepted.json()).links.self];
  let task = {};
  while (!["succeeded", "failed"].includes(task.state)) {
    const polled = await fetch(`${url}${own}?wait=5`, {headers});
    task = await polled.json();
  }
  const events = await fetch(`${url}${own}/events`, {headers: {...headers, "Last-Event-ID": "0"}});
  seen.events = [events.status, (await events.text()).includes("event: result")];
  const image = await fetch(url + task.result.images[0].url, {headers});
  const picture = document.getElementById("picture");
  picture.src = URL.createObjectURL(await image.blob());
  await picture.decode();
  seen.picture = [image.status, picture.naturalWidth];
  return seen;
}"""
#: What a page gets that asks with and without a token, and in a way that needs no preflight.
TRY = """async ([url, token]) => {
  const attempts = [
    () => fetch(url + "/health"),
    () => fetch(url + "/tasks", {headers: {Authorization: `Bearer ${token}`}}),
    () => fetch(url + "/completion", {method: "POST", body: '{"prompt": "x"}', credentials: "include"}),
  ];
  const seen = [];
  for (const attempt of attempts) {
    try { seen.push((await attempt()).status); } catch (error) { seen.push(error.name); }
  }
  return seen;
}"""


#: A page has a form sent, in ways that browsers allow without asking the server, with the password that they remember.
FORM = """async (url) => {
  for (const type of ["text/plain", "application/x-www-form-urlencoded"]) {
    await fetch(url + "/sdapi/v1/txt2img", {method: "POST", mode: "no-cors", credentials: "include",
      headers: {"Content-Type": type}, body: '{"prompt": "a fox", "width": 64, "height": 64, "steps": 1}'});
  }
}"""


#: The page of the example, and what a browser must be told that it is.
EXAMPLE = {"index.html": "text/html", "graycat.js": "text/javascript"}


class PageHandler(BaseHTTPRequestHandler):
    """Serves the page of the example below /game, with the tokens of ``mint``, and one page at any other path."""

    mint: Callable[[str], dict[str, Any]]

    def do_GET(self) -> None:
        """Answer."""
        name = self.path.partition("?")[0].removeprefix("/game/")
        self._send(EXAMPLE.get(name, "text/html"), (WEBGL / name).read_bytes() if name in EXAMPLE else PAGE)

    def do_POST(self) -> None:
        """Mint a token, as the example's own server does."""
        self._send("application/json", json.dumps(PageHandler.mint(self.headers["Authorization"])).encode())

    def _send(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Write nothing."""


@pytest.fixture(scope="module")
def site() -> Iterator[int]:
    """Yield the port of another web site."""
    with ThreadingHTTPServer(("127.0.0.1", 0), PageHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.fixture(scope="module")
def proxy_port() -> int:
    """Return the port for proxies."""
    return free_ports(1)[0]


@pytest.fixture(scope="module")
def edged(tmp_path_factory: pytest.TempPathFactory, site: int, proxy_port: int) -> Iterator[Stack]:
    """Yield a stack with a port for proxies, that pages of the other site may call."""
    env = {
        "GRAYCAT_PROXY_PROTOCOL_PORT": str(proxy_port),
        "GRAYCAT_FORWARDED_FROM": "127.0.0.1",
        "GRAYCAT_CORS_ORIGINS": f"http://127.0.0.1:{site}",
        "GRAYCAT_MAX_CONNECTIONS_PER_ADDRESS": str(LIMIT),
        "GRAYCAT_MAX_IMAGE_BODY_BYTES": str(MOST_BYTES),
        "RUN_SD": "true",
    }
    with fake_engine("--interval", str(INTERVAL_S), "--slots", "8") as engine:
        env["LLAMA_SERVER_URL"] = engine
        with running(Stack(tmp_path_factory.mktemp("edge"), env=env)) as stack:
            yield stack


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates(tmp_path_factory.mktemp("certificates") / "edge", "127.0.0.1", "::1")


@pytest.fixture(scope="module", params=PROGRAMS)
def any_edge(
    request: pytest.FixtureRequest, edged: Stack, certificate: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Edge]:
    """Yield a proxy in front of the stack, with the configuration that graycat prints for it."""
    with running_edge(request.param, tmp_path_factory.mktemp("edge"), certificate, edged.env) as found:
        yield found


@pytest.fixture
def edge(any_edge: Edge) -> Edge:
    """Return a proxy that passes on TCP connections."""
    if any_edge.kind not in WITH_TCP:
        pytest.skip("it cannot pass on TCP connections")
    return any_edge


def test_a_stream_survives_a_proxy_that_stands_still(edged: Stack, edge: Edge) -> None:
    with ExitStack() as opened:
        games = []
        for host in ("127.0.0.3",) * LIMIT + ("::1",):
            connection = opened.enter_context(edge.connect(host))
            games.append(send_post(edged.url, "/completion", STORY, edged.token, connection=connection))
        assert [game.recv(1) for game in games] == [b"H"] * len(games)
        with edge.stopped():
            threading.Event().wait(1.0)
        answers = [V3Reader().read(Prefixed(b"H", game)) for game in games]  # type: ignore[arg-type]
    assert [len(answer.tokens) for answer in answers] == [TOKENS] * len(games)


def health(edge: Edge, host: str) -> bytes:
    """Return the status that /health has for an address behind a proxy."""
    with edge.connect(host) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return connection.recv(12)[9:]


def test_the_limits_of_an_address_are_each_player_s_own(edged: Stack, edge: Edge) -> None:
    unfinished = b"POST /tokenize HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\nContent-Length: 9\r\n\r\n"
    with ExitStack() as opened:
        for _ in range(LIMIT):
            connection = opened.enter_context(edge.connect("127.0.0.2"))
            connection.sendall(unfinished % edged.token.encode())
        eventually(lambda: health(edge, "127.0.0.2") == b"429", SLACK_S)
        # All come from the same proxy.
        assert health(edge, "127.0.0.3") == b"200"
    eventually(lambda: health(edge, "127.0.0.2") == b"200", SLACK_S)


def test_a_page_s_stream_and_its_hang_up_come_through(edged: Stack, any_edge: Edge) -> None:
    body = ("-H", f"Authorization: Bearer {edged.token}", "-d", json.dumps(STORY))
    whole = any_edge.curl("/completion", *body)
    assert (whole.status, whole.version, whole.body.count(b"data: ")) == (200, "2", TOKENS + 1)
    long = ("-N", "-d", json.dumps(STORY | {"n_predict": 10_000}), *body[:2])
    with any_edge.curl_process("/completion", *long) as process:
        assert process.stdout is not None
        # Events come one by one: nothing waits in the proxy.
        assert process.stdout.readline().startswith(b"data: ")
        assert len(edged.live()) == 1
    eventually(lambda: edged.live() == [], SLACK_S)


def test_a_body_of_many_megabytes_gets_an_answer_of_graycat_s(edged: Stack, any_edge: Edge, tmp_path: Path) -> None:
    """It is as large as graycat takes, and no image."""
    text = b'{"init_images": ["", "%b"]}'
    (tmp_path / "body").write_bytes(text % (b"A" * (MOST_BYTES - len(text) + 2)))
    sent = ("-H", f"Authorization: Bearer {edged.token}", "--data-binary", f"@{tmp_path}/body")
    answer = any_edge.curl("/sdapi/v1/img2img", *sent)
    assert (answer.status, json.loads(answer.body)["type"]) == (400, "invalid_image")


class Prefixed:
    """A connection of which some bytes were read already."""

    def __init__(self, begun: bytes, connection: Any) -> None:
        self._begun = begun
        self._connection = connection

    def recv(self, size: int) -> bytes:
        """Receive as a socket does."""
        begun, self._begun = self._begun, b""
        found: bytes = begun or self._connection.recv(size)
        return found


def player_token(stack: Stack) -> str:
    """Return a token that a game's server has made for one player."""
    minted = stack.client().post("/tokens/player", {"player": "p1"})
    assert minted.status_code == 201, minted.text
    return str(minted.json()["token"])


def test_a_page_of_another_site_plays(edged: Stack, site: int, new_window: Callable[..., Window]) -> None:
    window = new_window()
    window.open(f"http://127.0.0.1:{site}/")
    assert window.page.evaluate(PLAY, [edged.url, player_token(edged)]) == {
        "stream": [200, True, True],
        "error": [400, "invalid_request_error", True],
        "unauthorized": [401, "token_unknown"],
        "accepted": [202, True],
        "events": [200, True],
        "picture": [200, 64],
    }


def test_the_page_of_the_example_plays(
    edged: Stack, site: int, new_window: Callable[..., Window], monkeypatch: pytest.MonkeyPatch
) -> None:
    minted = iter(({"token": "gp_old", "expires_in_s": 300}, {"token": player_token(edged), "expires_in_s": 300}))
    sessions = []

    def mint(authorization: str) -> dict[str, Any]:
        sessions.append(authorization)
        return next(minted)

    monkeypatch.setattr(PageHandler, "mint", mint, raising=False)
    window = new_window()
    window.open(f"http://127.0.0.1:{site}/game/index.html?server={edged.url}#session-1")
    page, status = window.page, "document.getElementById('status').textContent"
    page.fill("#question", "A room, please")
    page.press("#question", "Enter")
    # The first token is refused, so the page gets another from its own server.
    window.wait_for(f"{status} === 'done'")
    assert sessions == ["Bearer session-1"] * 2
    assert page.inner_text("#answer").strip()

    page.press("#question", "Enter")
    window.wait_for("document.getElementById('answer').textContent !== ''")
    page.click("#stop")
    window.wait_for(f"{status} === 'stopped'")
    eventually(lambda: not edged.live(), 20)

    page.click("#paint")
    window.wait_for(f"{status} === 'done' && document.getElementById('picture').naturalWidth === 64")
    assert len(sessions) == 2


def test_a_page_of_a_site_that_is_not_listed_gets_nothing(
    edged: Stack, site: int, new_window: Callable[..., Window]
) -> None:
    window = new_window()
    # The same site by another name is another origin.
    window.open(f"http://localhost:{site}/")
    before = len(edged.live())
    assert window.page.evaluate(TRY, [edged.url, player_token(edged)]) == ["TypeError"] * 3
    assert len(edged.live()) == before
    eventually(lambda: any("blocked by CORS policy" in text for text in window.errors), SLACK_S)


def test_a_page_of_another_origin_cannot_use_a_password_that_the_browser_remembers(
    edged: Stack, site: int, new_window: Callable[..., Window]
) -> None:
    window = new_window(http_credentials={"username": "me", "password": edged.token})
    window.open(f"{edged.url}/sdapi/v1/progress")
    assert '"progress"' in window.page.content()
    # Only the port is another: Chromium sends the password. Pages of other hosts it keeps from it itself.
    window.open(f"http://127.0.0.1:{site}/")
    before = set(edged.redis().scan_iter("graycat:task:*"))
    window.page.evaluate(FORM, edged.url)
    assert set(edged.redis().scan_iter("graycat:task:*")) <= before
