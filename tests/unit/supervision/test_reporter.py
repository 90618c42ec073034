from __future__ import annotations

import socket

import pytest

from graycat.fleet.processes import ProcessReports, ProcessStatus
from graycat.supervision import reporter
from graycat.supervision.reporter import ProcessReporter
from tests.support.helpers import Valkey, changed, eventually

WEB = ProcessStatus("web", "running", 17)
GONE = ProcessStatus("web", "crash loop", None, 3, "exit status 1", 4.0)


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporter, "REPORT_INTERVAL_S", 0.02)


def test_the_newest_states_are_told_and_taken_back_at_the_end(broker: Valkey) -> None:
    reports = ProcessReports(broker.client)
    told = ProcessReporter(changed(broker.settings, box="here"))
    told.update([WEB])
    eventually(lambda: reports.read() == {"here": [WEB]})
    told.update([GONE])
    eventually(lambda: reports.read() == {"here": [GONE]})
    connected = broker.client.info("clients")["connected_clients"]
    told.stop()
    eventually(lambda: reports.read() == {})
    # The broker waits for its clients at the end.
    eventually(lambda: broker.client.info("clients")["connected_clients"] == connected - 1)


def test_a_machine_without_a_name_is_told_by_its_host_name(broker: Valkey) -> None:
    """Two of them would write over each other's report."""
    told = ProcessReporter(changed(broker.settings, box=""))
    told.update([WEB])
    eventually(lambda: ProcessReports(broker.client).read() == {socket.gethostname(): [WEB]})
    told.stop()


def test_a_broker_that_comes_back_is_told_again(mortal_broker: Valkey) -> None:
    told = ProcessReporter(changed(mortal_broker.settings, box="here"))
    told.update([WEB])
    mortal_broker.kill()
    mortal_broker.start()
    reports = ProcessReports(mortal_broker.client)
    mortal_broker.client.flushall()
    eventually(lambda: reports.read() == {"here": [WEB]})
    told.stop()
