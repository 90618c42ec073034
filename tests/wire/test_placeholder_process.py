"""The placeholder as a process: what it says, costs and leaves."""

from __future__ import annotations

import signal
import socket
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.processes import eventually
from tests.support.webui_wire import PATIENCE_S, PLACEHOLDER, WebUI, running


def test_it_says_what_it_is(webui: WebUI) -> None:
    webui.call("POST", "txt2img", {"prompt": "a secret prompt", "steps": None})
    assert "PLACEHOLDER - not a diffusion model" in webui.output.text
    assert f"ready at http://127.0.0.1:{webui.port}" in webui.output.text
    assert "secret" not in webui.output.text


def test_it_listens_on_this_machine_only(webui: WebUI) -> None:
    for address in {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}:
        if not str(address).startswith("127."):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((str(address), webui.port), 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_at_once_whatever_it_does(number: signal.Signals) -> None:
    with running(PLACEHOLDER, "--step-s", "60") as webui, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(webui.call, "POST", "txt2img", {"steps": 9})
        eventually(lambda: webui.progress()["state"]["job"], PATIENCE_S)
        webui.process.send_signal(number)
        assert webui.process.wait(2) == 0
        assert isinstance(waiting.exception(PATIENCE_S), OSError)
        assert "Traceback" not in webui.output.text


def test_it_costs_nothing_while_it_waits(webui: WebUI) -> None:
    stat = Path(f"/proc/{webui.process.pid}/stat")
    if not stat.exists():
        pytest.skip("needs /proc")

    def ticks() -> int:
        return sum(map(int, stat.read_text().rpartition(")")[2].split()[11:13]))

    webui.get("samplers")
    before = ticks()
    # Half a second in which nobody asks it for anything.
    with pytest.raises(TimeoutError), socket.create_connection(("127.0.0.1", webui.port), 0.5) as connection:
        connection.recv(1)
    assert ticks() - before <= 1


def test_an_answer_on_a_kept_connection_does_not_wait_for_a_receipt(webui: WebUI) -> None:
    def seconds() -> float:
        started = time.monotonic()
        webui.get("samplers")
        return time.monotonic() - started

    # The kernel sends the receipt after 40 ms. Those who wait for it always do; a busy machine is not always slow.
    eventually(lambda: statistics.median(seconds() for _ in range(11)) < 0.03, PATIENCE_S)


@pytest.mark.parametrize("size", [b"XYZ", b"-1", b"", b"f" * 20])
def test_chunks_that_are_none_are_the_caller_s_error(webui: WebUI, size: bytes) -> None:
    head = b"POST /sdapi/v1/txt2img HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", webui.port), PATIENCE_S) as connection:
        connection.sendall(head + size + b"\r\n{}\r\n0\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"There was an error parsing the body" in answer
