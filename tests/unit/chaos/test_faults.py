"""The table of faults: each has a name of its own, and permits only what the audit can find."""

from __future__ import annotations

from collections import Counter

import pytest

from chaos.faults import BREAKS, ENDS, REFUSES, Fault, all_faults
from chaos.faults.broker import LOSES
from chaos.faults.poison import FOREIGN_NAMES, SET_ASIDE

pytestmark = pytest.mark.not_covered

GROUPS = {"processes", "network", "disk", "memory", "clock", "broker", "poison", "operators", "versions", "windows"}
GROUPS |= {"streams", "deadlines"}
#: These take accepted work out of the broker: docs/broker.md promises it to nobody then.
TAKES_WORK_AWAY = {"failover to a replica that lags", "broker restored", "broker restored while graycat is down"}
#: What a fault may permit: never that anything is lost, hangs, is late or wrong, or is done twice.
PERMITTED = BREAKS | REFUSES | ENDS | SET_ASIDE | FOREIGN_NAMES | {"task failed"}


def test_there_are_at_least_forty_each_with_a_name_of_its_own() -> None:
    names = Counter(fault.name for fault in all_faults())
    assert len(names) >= 40
    assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.parametrize("fault", all_faults(), ids=lambda fault: fault.name)
def test_a_fault_says_what_it_does_and_permits_no_loss(fault: Fault) -> None:
    assert fault.group in GROUPS
    assert fault.what
    assert "," not in fault.name, "names are parted by commas on the command line"
    assert "|" not in fault.name + fault.what, "this would be a new column of the report"
    permitted = PERMITTED
    if fault.group == "streams":
        # Its engine is slow, and has hundreds of slots; it looks itself how long its readers wait.
        permitted = permitted | {"slow", "grown"}
    if fault.name in TAKES_WORK_AWAY:
        permitted = permitted | LOSES
    assert fault.permits <= permitted, sorted(fault.permits - permitted)


def test_the_short_form_has_some_of_them() -> None:
    assert 5 <= sum(fault.short for fault in all_faults()) <= 12
