from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests
from prometheus_client import CollectorRegistry, Gauge

from graycat.errors import SettingsError
from graycat.metrics.server import MetricsServer, has_bearer_token, join_collectors, metrics_port
from graycat.settings import Settings
from tests.support.helpers import AT_ONCE_S, PATIENCE_S, Stopwatch

TOKEN = "a-scraper-of-the-tests"


@contextmanager
def served(token: str = "", host: str = "127.0.0.1") -> Iterator[str]:
    registry = CollectorRegistry()
    Gauge("graycat_of_the_tests", "Of the tests.", registry=registry).set(42)
    endpoint = MetricsServer(join_collectors(registry), host, 0, token)
    endpoint.start()
    try:
        yield f"http://{f'[{host}]' if ':' in host else host}:{endpoint.port}/metrics"
    finally:
        endpoint.stop()


def test_who_asks_gets_the_metrics() -> None:
    with served() as url:
        response = requests.get(url, timeout=PATIENCE_S)
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/plain")
    assert "graycat_of_the_tests 42.0" in response.text


@pytest.mark.parametrize("given", ["", "Bearer wrong", f"Basic {TOKEN}", TOKEN, "Bearer", f"Bearer {TOKEN}x"])
def test_who_lacks_the_token_gets_nothing(given: str) -> None:
    with served(TOKEN) as url:
        response = requests.get(url, headers={"Authorization": given}, timeout=PATIENCE_S)
        assert (response.status_code, response.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert "graycat_of_the_tests" not in response.text
        allowed = requests.get(url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=PATIENCE_S)
        assert allowed.status_code == 200


def test_a_header_of_strange_letters_is_no_token() -> None:
    assert not has_bearer_token("Bearer ümläut", TOKEN)
    assert has_bearer_token(f"bearer {TOKEN}", TOKEN)


def test_who_says_nothing_keeps_nobody_waiting() -> None:
    with served() as url, socket.create_connection(("127.0.0.1", int(url.split(":")[2].split("/")[0]))):
        watch = Stopwatch()
        assert requests.get(url, timeout=PATIENCE_S).ok
        assert watch.seconds < AT_ONCE_S


def test_a_port_that_is_taken_is_an_error() -> None:
    with served() as url, pytest.raises(OSError, match="in use"):
        MetricsServer(CollectorRegistry(), "127.0.0.1", int(url.split(":")[2].split("/")[0]))


@pytest.mark.skipif(not socket.has_ipv6, reason="this Python has no IPv6")
def test_the_address_may_be_an_ipv6_one() -> None:
    with served(host="::1") as url:
        assert requests.get(url, timeout=PATIENCE_S).ok


@pytest.mark.parametrize(
    ("kind", "gpu", "port"),
    [("control", None, 9820), ("llm", None, 9840), ("llm", 0, 9840), ("llm", 3, 9843), ("quick", 3, 9863)]
    + [("sd", None, 9880), ("sd", 19, 9899)],
)
def test_a_worker_s_port_follows_from_its_kind_and_gpu(kind: str, gpu: int | None, port: int) -> None:
    assert metrics_port(Settings(metrics_port=9820), kind, gpu) == port


def test_no_worker_has_a_port_unless_one_is_set() -> None:
    assert metrics_port(Settings(), "llm", 0) == 0
    # A worker of any queues, started by Celery's own command.
    assert metrics_port(Settings(metrics_port=9820), "", None) == 0


def test_a_gpu_without_a_port_is_an_error() -> None:
    with pytest.raises(SettingsError, match="GRAYCAT_METRICS_PORT"):
        metrics_port(Settings(metrics_port=9820), "llm", 20)


def test_beat_has_a_port_of_its_own() -> None:
    assert metrics_port(Settings(metrics_port=9820), "beat", None) == 9900
    assert metrics_port(Settings(), "beat", None) == 0


def test_anybody_may_ask_how_the_process_is() -> None:
    troubles = ["", "its engine is loading"]
    endpoint = MetricsServer(CollectorRegistry(), "127.0.0.1", 0, TOKEN, lambda: troubles.pop(0))
    endpoint.start()
    try:
        url = f"http://127.0.0.1:{endpoint.port}/health"
        well, ill, broken = (requests.get(url, timeout=PATIENCE_S) for _ in range(3))
    finally:
        endpoint.stop()
    assert (well.status_code, well.json()) == (200, {"status": "ok"})
    assert (ill.status_code, ill.json()["reason"]) == (503, "its engine is loading")
    assert (broken.status_code, "pop" in broken.text) == (503, False)
