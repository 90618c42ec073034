"""Each loop that serves many has a test that gives it rubbish, and then a good item.

The names are those of ``graycat.loops.names``: one without a case fails here.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from graycat.loops import names
from tests.support.helpers import ROOT

#: Loops whose case stands beside the other tests of their module.
ELSEWHERE = {
    "hub": "unit/web/streaming/test_hub_rubbish.py::test_a_push_that_is_no_event_is_counted_and_the_next_one_comes",
    "stream relay": "unit/worker/test_stream_relay.py::test_an_event_that_cannot_be_edited_ends_only_its_own_stream",
    "publisher": "unit/worker/test_stream_relay.py::test_a_stream_that_another_program_has_replaced_ends_alone",
    "gate": "unit/worker/test_gate.py::test_a_check_that_fails_is_noted_and_the_next_one_counts",
    "queue": "unit/broker/test_transport.py::test_a_message_that_cannot_be_used_is_set_aside_and_the_next_is_delivered",
    "unacknowledged messages": (
        "unit/broker/test_transport.py"
        "::test_a_spoiled_entry_among_the_unacknowledged_is_set_aside_and_the_others_come_back"
    ),
    "unknown kinds": (
        "unit/worker/test_unknown_kinds.py::test_an_error_with_one_message_is_counted_and_the_next_one_is_handled"
    ),
    "api tokens": "unit/auth/test_damaged_tokens.py::test_listing_minting_and_revoking_go_on",
    "token watch": "unit/web/streaming/test_token_watch.py::test_a_look_that_fails_is_counted_and_the_next_one_comes",
    "ended tokens": "unit/worker/test_ended_tokens.py::test_rubbish_among_them_ends_nobody_s_and_hides_no_other",
    "wrong keys": "unit/worker/test_wrong_keys.py::test_a_key_of_another_type_is_moved_aside_for_a_week",
    "consumer": "integration/test_rubbish.py::test_a_good_envelope_with_something_else_in_it",
    "remote control": "integration/test_rubbish.py::test_rubbish_on_the_channels_of_celery_s_control",
    "front": "unit/front/test_worker.py::test_a_look_that_fails_is_counted_and_the_next_one_comes",
    "disconnect watcher": "unit/web/streaming/test_disconnect.py::test_a_callback_that_raises_ends_no_other_watch",
    "schedules": "unit/schedules/test_damaged_schedules.py::test_it_keeps_no_other_from_firing",
    "beat": "unit/schedules/test_ticker.py::test_what_the_broker_holds_is_rebuilt_if_it_is_unusable",
    "live batches": (
        "unit/batches/runner/test_damaged_batches.py::test_an_unreadable_batch_is_abandoned_and_the_others_go_on"
    ),
    "batch runner": (
        "unit/batches/runner/test_damaged_batches.py::test_an_unusable_batch_ends_as_failed_and_the_others_go_on"
    ),
    "batch throughput": (
        "unit/batches/runner/test_damaged_batches.py::test_averages_that_are_no_numbers_cost_an_estimate"
    ),
    "batch items": "unit/batches/test_records.py::test_a_damaged_item_keeps_no_other_from_being_shown",
    "batches": "unit/batches/test_records.py::test_a_damaged_batch_keeps_no_other_from_being_listed",
    "snapshot": "unit/web/test_rubbish_in_the_broker.py::test_a_report_of_another_type_hides_no_other",
    "fleet": "unit/web/test_rubbish_in_the_broker.py::test_a_report_of_no_worker_hides_no_other",
    "tasks": "unit/web/test_rubbish_in_the_broker.py::test_a_record_of_another_type_among_the_unfinished",
    "records": "unit/web/test_rubbish_in_the_broker.py::test_a_record_of_another_type_among_the_unfinished",
    "usage": "unit/usage/test_reader.py::test_a_day_that_another_program_has_written_over_hides_no_other",
    "gallery": "unit/batches/runner/test_damaged_batches.py::test_a_gallery_that_cannot_be_written_costs_nothing_else",
    "models": "unit/web/test_rubbish_in_the_broker.py::test_a_list_of_models_that_is_none_hides_no_other",
}

#: The loops whose cases are in this folder.
HERE = [
    name
    for path in Path(__file__).parent.glob("test_rubbish_*.py")
    for name in re.findall(r'^@feeds\("([^"]+)"\)$', path.read_text(), re.MULTILINE)
]


def test_every_loop_has_one_case() -> None:
    assert sorted([*HERE, *ELSEWHERE]) == sorted(names.NAMES)


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_case_that_stands_elsewhere_exists(name: str) -> None:
    file, _, test = ELSEWHERE[name].partition("::")
    assert f"\ndef {test}(" in (ROOT / "tests" / file).read_text()
