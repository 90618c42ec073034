from __future__ import annotations

from graycat.queue.redelivery import redelivery_options, unacked_keys
from graycat.queue.topology import WORKER_KINDS
from graycat.settings import Settings


def test_each_kind_of_worker_keeps_what_it_has_taken_by_itself() -> None:
    places = [unacked_keys(kind)["unacked_key"] for kind in ("", *WORKER_KINDS)]
    assert len(set(places)) == len(places)


def test_a_dead_worker_s_messages_come_back_when_its_lease_is_over() -> None:
    options = redelivery_options(Settings(lease_s=7.0), "llm")
    assert options["visibility_timeout"] == 7.0
    assert options["unacked_key"] == "unacked:llm"
    # Every second, not every hundred.
    assert options["unacked_restore_interval"] * options["unacked_restore_throttle"] == 1
