from __future__ import annotations

import gc
import json
from typing import Any

import gevent
import gevent.event
import pytest

from graycat.cli.web import WebServer
from graycat.front.guard import RESERVE
from graycat.front.places import HEAD, IDLE, RUN, STALLED
from graycat.front.turns import WOKEN_PER_ROUND
from graycat.front.worker import GuardedWorker
from graycat.gctuning import DUE_AFTER, NEVER
from graycat.metrics import web
from graycat.settings import Settings
from tests.support.fronted import GET, front, hello
from tests.support.helpers import Stopwatch
from tests.support.metered import value
from tests.support.rounds import each_look, largest_step

BIG = b"x" * 4_000_000


def body_of(answer: bytes) -> Any:
    return json.loads(answer.partition(b"\r\n\r\n")[2])


def read_one(client: Any) -> bytes:
    """Read one answer of ``hello``."""
    found = b""
    while not found.endswith(b"hello"):
        data = client.recv(65536)
        assert data, found
        found += data
    return found


def big(_environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Length", str(len(BIG)))])
    return [BIG]


def reads_body(environ: Any, start_response: Any) -> list[bytes]:
    """Answer with what reading the body has brought."""
    try:
        found = str(len(environ["wsgi.input"].read())).encode()
    except OSError:
        found = environ["gunicorn.socket"].cut.encode()
    start_response("200 OK", [("Content-Length", str(len(found)))])
    return [found]


def cuts(reason: str) -> float:
    return value(web, "graycat_http_connections_cut_total", reason=reason)


def test_a_connection_serves_one_request_after_the_other() -> None:
    with front() as running:
        client = running.connect()
        for _ in range(3):
            client.sendall(GET)
            assert read_one(client).startswith(b"HTTP/1.1 200")
        running.wait_until(lambda: running.guard.places.number_of(IDLE) == 1)
        client.close()
        running.wait_until(lambda: running.guard.places.count == 0)
        assert running.guard._sources == {}


@pytest.mark.parametrize(("data", "state"), [(b"", HEAD), (GET[:-4], HEAD), (GET, IDLE)])
def test_many_that_close_at_once_end_a_few_between_two_looks(data: bytes, state: str) -> None:
    with front(max_half_open_per_address=300) as running:
        clients = [running.connect(data) for _ in range(200)]
        running.wait_until(lambda: running.guard.places.number_of(state) == 200)
        with each_look(lambda: running.guard.places.count) as seen:
            for client in clients:
                # The system's own, whose closing leaves nothing to the event loop.
                client._sock.close()
            running.wait_until(lambda: running.guard.places.count == 0)
    assert largest_step(seen) <= 2 * WOKEN_PER_ROUND


def test_no_full_collection_runs_while_somebody_waits() -> None:
    going, found = gevent.event.Event(), []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start" and info["generation"] == 2:
            found.append(info)

    def stream(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Length", "10")])
        yield b"hello"
        going.wait(20)
        yield b"hello"

    def runs(environ: Any, start_response: Any) -> Any:
        return {"/stream": stream}.get(environ["PATH_INFO"], hello)(environ, start_response)

    with front(runs) as running:
        assert gc.get_threshold()[2] == NEVER
        streamed = running.connect(GET.replace(b"/", b"/stream", 1))
        assert read_one(streamed)
        gc.callbacks.append(note)
        try:
            for _ in range(3 * DUE_AFTER):
                gc.collect(1)
                assert running.connect(GET).recv(65536).endswith(b"hello")
                gevent.sleep(0.02)
            assert gc.get_count()[2] > DUE_AFTER
            assert found == []
            going.set()
            assert streamed.recv(5) == b"hello"
            running.wait_until(lambda: bool(found))
        finally:
            gc.callbacks.remove(note)


def test_half_a_head_is_cut_at_its_deadline_and_told_why() -> None:
    before = cuts("slow head")
    with front(head_timeout_s=0.1) as running:
        silent, half = running.connect(), running.connect(GET[:-4])
        assert running.ends(silent) == b""
        answer = running.ends(half)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert body_of(answer)["error"]["type"] == "request_timeout"
        assert cuts("slow head") == before + 2


def test_a_head_that_drips_has_no_more_time_than_any_other() -> None:
    with front(head_timeout_s=0.3) as running:
        client = running.connect(GET[:-2] + b"A: ")
        while not (answer := peek(client)):
            client.sendall(b"x")
            gevent.sleep(0.005)
        assert answer.startswith(b"HTTP/1.1 408 ")


def peek(client: Any) -> bytes:
    try:
        found: bytes = client._sock.recv(4096)
    except BlockingIOError:
        return b""
    return found


def test_the_next_head_has_its_deadline_from_its_first_byte() -> None:
    with front(head_timeout_s=0.2, idle_timeout_s=10) as running:
        client = running.connect(GET)
        read_one(client)
        client.sendall(GET[:5])
        assert running.ends(client).startswith(b"HTTP/1.1 408 ")


def test_a_connection_without_requests_is_closed_after_a_while() -> None:
    with front(idle_timeout_s=0.1) as running:
        client = running.connect(GET)
        read_one(client)
        assert running.ends(client) == b""


def test_a_head_without_end_is_refused() -> None:
    with front() as running:
        client = running.connect(b"GET / HTTP/1.1\r\n" + b"A: bbbbbbb\r\n" * 90 + b"C: " + b"d" * 7000 + b"\r\n")
        for _ in range(10):
            client.sendall(b"E: " + b"f" * 7000 + b"\r\n")
        answer = running.ends(client)
        assert (answer[:12], body_of(answer)["error"]["type"]) == (b"HTTP/1.1 431", "headers_too_large")


def test_a_body_that_pauses_ends_the_reading_and_the_answer_is_still_sent() -> None:
    with front(reads_body, body_timeout_s=0.1) as running:
        client = running.connect(b"POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\nabc")
        assert running.ends(client).endswith(b"\r\n\r\nslow body")


def test_a_body_that_drips_is_too_slow_at_last() -> None:
    with front(reads_body, body_timeout_s=0.2, body_min_rate=100_000) as running:
        client = running.connect(b"POST / HTTP/1.1\r\nContent-Length: 100000\r\n\r\n")
        while not (answer := peek(client)):
            client.sendall(b"x")
            gevent.sleep(0.005)
        assert answer.endswith(b"slow body")


def test_a_body_that_keeps_up_may_take_longer_than_the_time_out() -> None:
    with front(reads_body, body_timeout_s=0.2, body_min_rate=1000) as running:
        client = running.connect(b"POST / HTTP/1.1\r\nContent-Length: 100000\r\n\r\n")
        for _ in range(100):
            client.sendall(b"x" * 1000)
            gevent.sleep(0.005)
        assert client.recv(65536).endswith(b"\r\n\r\n100000")


def test_all_bodies_together_are_bounded_and_given_back() -> None:
    with front(reads_body, max_bodies_bytes=50_000) as running:
        head = b"POST / HTTP/1.1\r\nContent-Length: 40000\r\n\r\n"
        first = running.connect(head, b"x" * 30_000)
        running.wait_until(lambda: running.guard._held_bytes > 20_000)
        second = running.connect(head, b"x" * 40_000)
        assert running.ends(second).endswith(b"bytes of bodies")
        first.sendall(b"x" * 10_000)
        assert first.recv(65536).endswith(b"40000")
        running.wait_until(lambda: running.guard._held_bytes == 0)


def test_a_body_that_nobody_reads_is_thrown_away_before_the_next_request() -> None:
    with front(max_bodies_bytes=1000) as running:
        client = running.connect(b"POST / HTTP/1.1\r\nContent-Length: 3000000\r\n\r\n", BIG[:3_000_000], GET)
        found = b""
        while found.count(b"HTTP/1.1 200") < 2:
            found += client.recv(65536)
        assert running.guard._held_bytes == 0


def test_an_endless_body_that_nobody_reads_is_not_waited_for() -> None:
    with front(body_timeout_s=60) as running:
        client = running.connect(b"POST / HTTP/1.1\r\nContent-Length: 1000000000000\r\n\r\n", BIG[:200_000])
        assert running.ends(client).endswith(b"hello")


def test_a_client_that_reads_nothing_is_cut() -> None:
    before = cuts("slow reader")
    with front(big, write_timeout_s=0.2) as running:
        client = running.connect(GET * 10, receive=4096)
        running.wait_until(lambda: running.guard.places.number_of(STALLED) == 1)
        running.wait_until(lambda: running.guard.places.count == 0)
        assert cuts("slow reader") == before + 1
        assert len(running.ends(client)) < len(BIG)


def test_a_client_that_reads_slowly_is_spared() -> None:
    watch = Stopwatch()
    with front(big, write_timeout_s=1.0) as running:
        client = running.connect(GET, receive=65536)
        received = stalls = 0
        while received < len(BIG):
            data = client.recv(16384)
            assert data, f"cut after {received} bytes"
            received += len(data)
            stalls += running.guard.places.number_of(STALLED)
            gevent.sleep(0.005)
        assert stalls > 20
    assert watch.seconds > 1.0


def test_requests_without_a_pause_do_not_keep_others_waiting() -> None:
    seen = []

    def notes(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.append(environ["PATH_INFO"])
        return hello(environ, start_response)

    with front(notes) as running:
        greedy = running.connect(b"GET /greedy HTTP/1.1\r\n\r\n" * 300)
        honest = running.connect(b"GET /honest HTTP/1.1\r\n\r\n")
        read_one(honest)
        greedy.close()
    assert seen.index("/honest") < 250


def blocker(go_on: gevent.event.Event) -> Any:
    def waits(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] == "/wait":
            go_on.wait()
        return hello(environ, start_response)

    return waits


@pytest.mark.parametrize(
    ("public_url", "path"),
    [("", b"/health"), ("https://play.example/gpu", b"/health"), ("https://play.example/gpu", b"/gpu/health")],
)
def test_health_is_answered_while_every_place_has_a_request(public_url: str, path: bytes) -> None:
    go_on = gevent.event.Event()
    with front(blocker(go_on), max_connections=3, public_url=public_url) as running:
        waiting = [running.connect(b"GET /wait HTTP/1.1\r\n\r\n") for _ in range(3)]
        running.wait_until(lambda: running.guard.places.number_of(RUN) == 3)
        refused = running.ends(running.connect(b"GET /other HTTP/1.1\r\n\r\n"))
        assert (refused[:12], body_of(refused)["error"]["type"]) == (b"HTTP/1.1 503", "server_busy")
        assert b"Retry-After: 2\r\n" in refused
        assert read_one(running.connect(b"GET " + path + b" HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 200")
        go_on.set()
        assert all(read_one(client) for client in waiting)


def test_while_every_place_has_a_request_the_newest_have_time_to_send_their_heads() -> None:
    go_on = gevent.event.Event()
    with front(blocker(go_on), max_connections=2) as running:
        for _ in range(2):
            running.connect(b"GET /wait HTTP/1.1\r\n\r\n")
        running.wait_until(lambda: running.guard.places.number_of(RUN) == 2)
        probes = [running.connect() for _ in range(RESERVE + 20)]
        for probe in probes[-100:]:
            probe.sendall(b"GET /health HTTP/1.1\r\n\r\n")
        assert all(read_one(probe) for probe in probes[-100:])
        assert all(running.ends(probe) == b"" for probe in probes[:20])
        go_on.set()


@pytest.mark.parametrize(
    ("sent", "status", "kind"),
    [
        (b"NONSENSE\r\n\r\n", 400, "malformed_request"),
        (b"GET /\0 HTTP/1.1\r\n\r\n", 400, "malformed_request"),
        (b"GET / HTTP/9.9\r\n\r\n", 400, "malformed_request"),
        (b"GET / HTTP/1.1\r\nNo colon\r\n\r\n", 400, "malformed_request"),
        (b"GET / HTTP/1.1\r\nA: b\0c\r\n\r\n", 400, "malformed_request"),
        (b"GET / HTTP/1.1\r\nContent-Length: many\r\n\r\n", 400, "malformed_request"),
        (b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, "malformed_request"),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", 414, "uri_too_long"),
        (b"GET / HTTP/1.1\r\nExpect: tea\r\n\r\n", 417, "expectation_failed"),
        (b"GET / HTTP/1.1\r\nA: " + b"x" * 9000 + b"\r\n\r\n", 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 101 + b"\r\n", 431, "headers_too_large"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: br\r\n\r\n", 501, "unsupported_transfer_encoding"),
    ],
    ids=lambda sent: str(sent)[:40],
)
def test_what_is_not_http_is_answered_in_our_form(sent: bytes, status: int, kind: str) -> None:
    with front() as running:
        answer = running.ends(running.connect(sent))
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"Content-Type: application/json" in answer
    assert (body_of(answer)["error"]["code"], body_of(answer)["error"]["type"]) == (status, kind)


def test_an_app_that_breaks_is_a_500_in_our_form_and_its_message_stays_out(caplog: Any) -> None:
    def breaks(_environ: Any, _start_response: Any) -> list[bytes]:
        raise RuntimeError("a secret")

    with front(breaks) as running:
        answer = running.ends(running.connect(GET))
    assert (answer[:12], body_of(answer)["error"]["type"]) == (b"HTTP/1.1 500", "server_error")
    assert "a secret" not in caplog.text


def test_connections_without_requests_end_when_the_process_stops() -> None:
    with front() as running:
        client = running.connect(GET)
        read_one(client)
        running.worker.alive = False
        assert running.ends(client) == b""


def test_a_look_that_fails_is_counted_and_the_next_one_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    before = value(web, "graycat_unexpected_total", where="front")
    with front(idle_timeout_s=0.1) as running:
        client = running.connect(GET)
        read_one(client)
        monkeypatch.setattr(running.guard, "sweep", failing_once(running.guard.sweep))
        assert running.ends(client) == b""
    assert value(web, "graycat_unexpected_total", where="front") == before + 1


def failing_once(sweep: Any) -> Any:
    failures = [RuntimeError("no")]

    def fails_once() -> None:
        if failures:
            raise failures.pop()
        sweep()

    return fails_once


def test_the_worker_of_a_server_is_the_guarded_one() -> None:
    assert WebServer(Settings()).cfg.worker_class is GuardedWorker
