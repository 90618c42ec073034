from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from graycat.egress import Target, allowlist
from graycat.webhooks import http
from graycat.webhooks.http import MAX_REPLY_BYTES, PublicHttpClient, Unreachable
from tests.support.helpers import Stopwatch, free_port, in_background
from tests.support.hooks import NAME, Certificate, Resolver, here, port_of, target_of, webhook_client
from tests.support.servers import Handler, hold, http_server, reply

HOOK = "POST /hook"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate.made_in(tmp_path_factory.mktemp("tls"))


def post(client: PublicHttpClient, target: Target) -> int | str:
    """Return the status of a call, or the word for why there is none."""
    try:
        return client.post(target, {"Content-Type": "application/json", "X-One": "1"}, b'{"a":1}')
    except Unreachable as error:
        return error.reason


def test_a_receiver_gets_headers_and_body_and_its_status_comes_back() -> None:
    with http_server({"POST /hook?x=1": reply(204, b"")}) as seen:
        assert post(webhook_client(), target_of(seen, "/hook?x=1")) == 204
        assert seen.requests == [("POST", "/hook?x=1", b'{"a":1}')]
        headers = seen.headers[0]
    assert (headers["host"], headers["x-one"]) == (f"{NAME}:{port_of(seen)}", "1")
    assert (headers["content-type"], headers["content-length"]) == ("application/json", "7")


def test_tls_verifies_the_name_though_the_address_is_called(certificate: Certificate) -> None:
    with http_server({HOOK: reply(200, {})}, certificate.server()) as seen:
        ours = webhook_client(tls=certificate.client())
        assert post(ours, target_of(seen)) == 200
        assert post(ours, target_of(seen, host="127.0.0.1")) == 200
        assert post(ours, target_of(seen, host="somebody-else.test")) == "tls"
        assert len(seen.requests) == 2


def test_an_untrusted_certificate_is_refused(certificate: Certificate) -> None:
    with http_server({HOOK: reply(200, {})}, certificate.server()) as seen:
        assert post(webhook_client(), target_of(seen)) == "tls"
        assert seen.requests == []


def test_by_default_the_usual_authorities_are_trusted() -> None:
    context = http.create_tls_context()
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.cert_store_stats()["x509_ca"] > 50


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    with http_server({}) as inside:

        def redirect(handler: Handler) -> None:
            handler.send_response(status)
            handler.send_header("Location", f"{inside.url}/admin")
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        with http_server({HOOK: redirect}) as seen:
            assert post(webhook_client(), target_of(seen)) == status
        assert inside.connections == 0


@pytest.mark.parametrize(
    "addresses",
    [
        *(["127.0.0.1"], ["::1"], ["10.0.0.1"], ["169.254.169.254"], ["::ffff:127.0.0.1"], ["64:ff9b::7f00:1"]),
        *(["8.8.8.8", "127.0.0.1"], ["127.0.0.1", "8.8.8.8"], ["2606:4700::1111", "fd00::1"], []),
    ],
)
def test_a_name_with_one_address_that_is_not_public_is_not_called(
    addresses: list[str], certificate: Certificate
) -> None:
    with http_server({HOOK: reply(200, {})}, certificate.server()) as seen:
        ours = webhook_client("", resolve=Resolver(addresses), tls=certificate.client())
        assert post(ours, target_of(seen)) == "no_public_address"
        assert seen.connections == 0


def test_a_name_that_does_not_exist_looks_the_same() -> None:
    def nowhere(*_: object) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    assert post(webhook_client("", resolve=nowhere), Target.from_url("https://a.test/")) == "no_public_address"


def test_an_address_in_the_url_is_checked_too_and_not_looked_up() -> None:
    resolver = Resolver(["8.8.8.8"])
    with http_server({HOOK: reply(200, {})}) as seen:
        assert post(webhook_client("", resolve=resolver), target_of(seen, host="127.0.0.1")) == "no_public_address"
        assert post(webhook_client(resolve=resolver), target_of(seen, host="127.0.0.1")) == 200
        assert (resolver.asked, seen.connections) == ([], 1)


def test_what_was_checked_is_what_is_called() -> None:
    # A name that answers otherwise at every look-up: the second one is where an attacker wants us.
    resolver = Resolver(["127.0.0.1"], ["127.0.0.2"])
    with http_server({HOOK: reply(200, {})}) as seen:
        assert post(webhook_client("127.0.0.1/32", resolve=resolver), target_of(seen)) == 200
        assert resolver.asked == [(NAME, port_of(seen))]
        assert post(webhook_client("127.0.0.1/32", resolve=resolver), target_of(seen)) == "no_public_address"
        assert seen.connections == 1


def test_what_an_operator_opens_by_name_is_called_wherever_it_is() -> None:
    with http_server({HOOK: reply(200, {})}) as seen:
        assert post(webhook_client(f"{NAME}:{port_of(seen)}"), target_of(seen)) == 200
        assert (
            post(webhook_client(f"{NAME}:{port_of(seen)}"), target_of(seen, host="other.test")) == "no_public_address"
        )
        assert post(webhook_client(NAME), target_of(seen)) == "no_public_address"


def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with http_server({}) as proxy, http_server({HOOK: reply(200, {})}) as seen:
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        assert post(webhook_client(), target_of(seen)) == 200
        assert proxy.connections == 0


def test_the_next_address_is_tried_if_one_is_down() -> None:
    # Nobody listens at the first: 127.0.0.2 is this machine too.
    with http_server({HOOK: reply(200, {})}) as seen:
        assert post(webhook_client(resolve=Resolver(["127.0.0.2", "127.0.0.1"])), target_of(seen)) == 200


def test_a_receiver_that_is_down_is_no_connection() -> None:
    assert post(webhook_client(), Target.from_url(f"http://{NAME}:{free_port()}/")) == "connection"


def test_a_receiver_that_never_answers_takes_no_longer_than_the_deadline() -> None:
    with http_server({HOOK: hold}) as seen:
        watch = Stopwatch()
        assert post(webhook_client(timeout_s=0.3), target_of(seen)) == "timeout"
        assert 0.25 < watch.seconds < 2
        assert seen.hung_up.wait(2)


@contextmanager
def listening(talk: bytes) -> Iterator[int]:
    """Listen for the block, and say ``talk`` to who connects, byte by byte, again and again; yield the port."""
    stopping = threading.Event()

    def serve() -> None:
        with suppress(OSError):
            connected, _ = listener.accept()
            with connected:
                while not stopping.is_set():
                    for byte in talk:
                        connected.sendall(bytes([byte]))
                        stopping.wait(0.02)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = in_background(serve)
        yield listener.getsockname()[1]
        stopping.set()
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


@pytest.mark.parametrize(
    ("scheme", "talk"), [("http", b"HTTP/1.1 200 OK"), ("http", b"X: y\r\n"), ("https", b"\x16\x03\x03\x00\x05")]
)
def test_nor_does_one_that_drips(scheme: str, talk: bytes) -> None:
    with listening(talk) as port:
        watch = Stopwatch()
        assert post(webhook_client(timeout_s=0.4), Target.from_url(f"{scheme}://{NAME}:{port}/")) != 200
        assert watch.seconds < 2


def test_nor_does_a_look_up_that_hangs() -> None:
    gate = threading.Event()

    def hanging(*_: object) -> list[str]:
        gate.wait(10)
        return here()

    watch = Stopwatch()
    assert post(webhook_client(resolve=hanging, timeout_s=0.2), Target.from_url("https://a.test/")) == "timeout"
    assert watch.seconds < 2
    gate.set()


def test_of_a_huge_answer_only_the_beginning_is_read() -> None:
    sent: list[int] = []

    def flood(handler: Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            sent.append(handler.wfile.write(b"x" * 65536))

    with http_server({HOOK: flood}) as seen:
        watch = Stopwatch()
        assert post(webhook_client(), target_of(seen)) == 200
        assert seen.hung_up.wait(5)
        assert watch.seconds < 3
    # What the kernel had room for; the receiver was hung up on.
    assert sum(sent) < 64 * 1024 * 1024


def test_headers_that_never_end_are_not_read_to_their_end() -> None:
    def babble(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("X-Long", "x" * (2 * MAX_REPLY_BYTES))
        handler.end_headers()

    with http_server({HOOK: babble}) as seen:
        assert post(webhook_client(), target_of(seen)) == 200


@pytest.mark.parametrize("nonsense", [b"", b"220 mail.test ESMTP\r\n", b"HTTP/1.1 OK\r\n\r\n", b"x" * 10_000])
def test_what_is_no_http_is_no_success(nonsense: bytes) -> None:
    def talk(handler: Handler) -> None:
        handler.close_connection = True
        handler.wfile.write(nonsense)

    with http_server({HOOK: talk}) as seen:
        assert post(webhook_client(), target_of(seen)) in ("protocol", "connection")


def test_the_system_resolves_by_default() -> None:
    assert "127.0.0.1" in http.resolve("localhost", 80)
    with http_server({HOOK: reply(200, {})}) as seen:
        target = target_of(seen, host="localhost")
        assert PublicHttpClient(allowlist(f"localhost:{port_of(seen)}")).post(target, {}, b"") == 200
        assert post(PublicHttpClient(allowlist("")), target) == "no_public_address"
