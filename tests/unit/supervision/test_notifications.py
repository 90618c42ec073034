from __future__ import annotations

from pathlib import Path

import pytest

from graycat.supervision.notifications import Notification, NotifySocket, parse


@pytest.mark.parametrize(
    ("message", "notification"),
    [
        (b"", Notification(False)),
        (b"READY=1", Notification(True)),
        (b"READY=1\nSTATUS=a=b\nMAINPID=1", Notification(True, "a=b")),
        (b"STATUS=\xff\nX_GRAYCAT_PROGRESS=7", Notification(False, "\ufffd", 1.0)),
        (b"STATUS=a\nX_GRAYCAT_PROGRESS=half", Notification(False, "a")),
        (b"X_GRAYCAT_PROGRESS=-inf", Notification(False, "", 0.0)),
        (b"X_GRAYCAT_PROGRESS=nan", Notification(False, "", 1.0)),
    ],
)
def test_a_message_is_read_by_its_fields(message: bytes, notification: Notification) -> None:
    assert parse(message) == notification


def test_a_socket_that_was_removed_is_closed_all_the_same(tmp_path: Path) -> None:
    listening = NotifySocket(tmp_path / "0")
    assert listening.receive() == []
    listening.path.unlink()
    listening.close()
