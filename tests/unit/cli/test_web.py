from __future__ import annotations

import logging
import resource
import signal
import sys
from pathlib import Path
from resource import RLIM_INFINITY
from types import SimpleNamespace

import pytest

from graycat.cli import web
from graycat.cli.web import PropagatingLogger, WebServer
from graycat.front.guard import RESERVE
from graycat.settings import Settings
from tests.support.helpers import run

#: Imports the command, then patches as gunicorn's worker does.
IMPORT = """
import sys
import graycat.cli.web
loaded = [name for name in ("redis", "celery", "requests", "graycat.web") if name in sys.modules]
from gevent import monkey
monkey.patch_all()
print(loaded)
"""


def test_the_server_is_what_the_settings_say() -> None:
    cfg = WebServer(Settings(host="127.0.0.2", port=8123, web_workers=3, stop_grace_s=7.5)).cfg
    assert (cfg.address, cfg.workers, cfg.graceful_timeout) == ([("127.0.0.2", 8123)], 3, 7)
    assert (cfg.worker_class_str, cfg.logger_class) == ("graycat.front.worker.GuardedWorker", PropagatingLogger)
    assert cfg.worker_connections > Settings().max_connections + RESERVE


def test_proxies_have_a_port_and_no_more_belief_than_the_settings_say() -> None:
    cfg = WebServer(Settings(port=8123)).cfg
    assert (cfg.address, cfg.forwarded_allow_ips, cfg.forwarder_headers) == ([("127.0.0.1", 8123)], [], [])
    cfg = WebServer(Settings(port=8123, proxy_protocol_port=8124, forwarded_from="10.0.0.1, 10.1.0.0/16")).cfg
    assert cfg.address == [("127.0.0.1", 8123), ("127.0.0.1", 8124)]
    assert cfg.forwarded_allow_ips == ["10.0.0.1", "10.1.0.0/16"]
    assert not cfg.proxy_protocol or cfg.proxy_protocol == "off"


@pytest.mark.parametrize(
    ("limits", "raised", "connections"),
    [
        ((1024, 100_000), (5250, 100_000), 4000),
        ((1024, 2000), (2000, 2000), 1750),
        ((100_000, 100_000), None, 4000),
        ((RLIM_INFINITY, RLIM_INFINITY), None, 4000),
        ((1024, RLIM_INFINITY), (5250, RLIM_INFINITY), 4000),
    ],
)
def test_a_process_opens_as_many_files_as_its_connections_need_or_takes_fewer(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], raised: tuple[int, int] | None, connections: int
) -> None:
    set_to = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, value: set_to.append(value))
    assert web.fit_to_file_limit(Settings(max_connections=4000)).max_connections == connections
    assert set_to == [value for value in (raised,) if value]


def test_several_processes_share_their_metrics(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, port=8123, web_workers=2)
    cfg = WebServer(settings).cfg
    folder = tmp_path.resolve() / "metrics" / "web-8123"
    assert cfg.env == {"PROMETHEUS_MULTIPROC_DIR": str(folder)}
    for _ in range(2):
        cfg.on_starting(None)
        assert list(folder.iterdir()) == []
        (folder / "counter_1.db").touch()
    assert WebServer(Settings(home=tmp_path)).cfg.env == {}


def test_an_ended_process_has_no_open_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    for name in ("gauge_livesum_7.db", "gauge_livesum_8.db", "counter_7.db"):
        (tmp_path / name).touch()
    for workers in (1, 2):
        web.forget_dead_child(None, SimpleNamespace(pid=7, cfg=SimpleNamespace(workers=workers)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["counter_7.db", "gauge_livesum_8.db"]


def test_gevent_patches_before_anything_else_is_imported() -> None:
    command = [sys.executable, "-W", "error", "-c", IMPORT]
    result = run(command)
    assert (result.returncode, result.stdout, result.stderr) == (0, "[]\n", "")


def test_gunicorn_s_own_lines_reach_graycat_s_log(caplog) -> None:
    before = logging.getLogger().handlers[:]
    glog = PropagatingLogger(WebServer(Settings()).cfg)
    # A test that has set up the log of a process has left its levels.
    caplog.set_level(logging.INFO, logger="gunicorn.error")
    glog.info("Booting worker with pid: %s", 1)
    assert logging.getLogger().handlers == before
    assert [(r.name, r.message) for r in caplog.records] == [("gunicorn.error", "Booting worker with pid: 1")]


def test_gunicorn_logs_no_requests(caplog) -> None:
    caplog.set_level(logging.DEBUG)
    PropagatingLogger(WebServer(Settings()).cfg).access(None, None, {}, None)
    assert caplog.records == []


def test_a_new_child_can_be_ended_before_it_has_handlers_of_its_own() -> None:
    script = (
        "import os, signal\n"
        "from graycat.cli.web import WebServer\n"
        "from graycat.settings import Settings\n"
        "signal.signal(signal.SIGTERM, lambda *_: None)\n"
        "WebServer(Settings()).cfg.post_fork(None, None)\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    assert run([sys.executable, "-c", script]).returncode == -signal.SIGTERM


#: Ends as gunicorn's child does. Whatever is taken apart with the interpreter would say so.
LEAVE = """
import atexit, sys
from graycat.cli.web import WebServer
from graycat.settings import Settings
class Late:
    def __del__(self):
        print("taken apart")
late = Late()
atexit.register(print, "done at the end")
try:
    sys.exit({status})
finally:
    WebServer(Settings()).cfg.worker_exit(None, None)
"""


@pytest.mark.parametrize("status", [0, 4])
def test_a_child_ends_with_its_status_without_an_interpreter_shutdown(status: int) -> None:
    left = run([sys.executable, "-c", LEAVE.format(status=status)])
    assert (left.returncode, left.stdout) == (status, "done at the end\n")
