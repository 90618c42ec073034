from __future__ import annotations

from graycat.worker.heartbeat import LOOP_STUCK_AFTER_S, LoopHeartbeat


def test_a_loop_is_alive_until_it_was_not_seen_for_too_long() -> None:
    heartbeat = LoopHeartbeat()
    assert not heartbeat.alive
    heartbeat.beat()
    assert heartbeat.alive
    heartbeat.seen_at -= LOOP_STUCK_AFTER_S
    assert not heartbeat.alive


def test_a_loop_that_has_stopped_is_not_alive() -> None:
    heartbeat = LoopHeartbeat()
    heartbeat.beat()
    heartbeat.stop()
    assert not heartbeat.alive
