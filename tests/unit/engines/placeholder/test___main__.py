from __future__ import annotations

import os
import signal

import pytest
from click.testing import CliRunner
from gevent.pywsgi import WSGIServer

from graycat.engines.placeholder import __main__ as process


@pytest.mark.parametrize("options", [[], ["--port", "x"], ["--port", "1", "--step-s", "-1"]])
def test_invalid_options_are_refused(options: list[str]) -> None:
    assert CliRunner().invoke(process.main, options).exit_code == 2


def test_it_says_what_it_is_and_where_and_ends_at_a_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = {}
    monkeypatch.setattr("gevent.signal_handler", lambda number, end, status: ends.update({number: (end, status)}))
    # Only what happens once it listens is left out.
    monkeypatch.setattr(WSGIServer, "serve_forever", WSGIServer.stop)
    result = CliRunner().invoke(process.main, ["--port", "0"])
    assert result.exit_code == 0, result.output
    first, last = result.output.splitlines()
    assert "PLACEHOLDER - not a diffusion model" in first
    assert last.startswith("model: placeholder ready at http://127.0.0.1:")
    assert ends == {signal.SIGTERM: (os._exit, 0), signal.SIGINT: (os._exit, 0)}
