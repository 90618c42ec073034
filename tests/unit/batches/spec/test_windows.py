from __future__ import annotations

from datetime import UTC, datetime

import pytest

from graycat.batches.spec.windows import Window


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("window", "moment", "is_open"),
    [
        ("01:00-06:00", "2026-01-10T00:59", False),
        ("01:00-06:00", "2026-01-10T01:00", True),
        ("01:00-06:00", "2026-01-10T05:59", True),
        ("01:00-06:00", "2026-01-10T06:00", False),
        ("22:00-06:00", "2026-01-10T23:00", True),
        ("22:00-06:00", "2026-01-10T05:00", True),
        ("22:00-06:00", "2026-01-10T12:00", False),
        ("18:00-24:00", "2026-01-10T23:59", True),
    ],
)
def test_a_window_is_open_by_the_clock(window: str, moment: str, is_open: bool) -> None:
    assert Window.parse(window, "UTC").is_open(at(moment)) is is_open


def test_the_clock_is_that_of_the_time_zone_in_summer_and_in_winter() -> None:
    window = Window.parse("01:00-06:00", "Europe/Berlin")
    assert [window.is_open(at(f"2026-{month}-10T00:30")) for month in ("01", "07")] == [True, True]
    assert [window.is_open(at(f"2026-{month}-10T23:30")) for month in ("01", "07")] == [False, True]
    assert str(window) == "01:00-06:00 Europe/Berlin"


@pytest.mark.parametrize("text", ["", "1-6", "01:00", "25:00-26:00", "01:00-01:00", "01:00-24:30", "١1:00-06:00"])
def test_what_is_no_window_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="01:00-06:00"):
        Window.parse(text, "UTC")


def test_work_that_needs_more_than_a_window_goes_on_in_the_next_ones() -> None:
    window = Window.parse("13:00-15:00", "UTC")
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()
    hour = 3600.0
    hours = [window.seconds_to_finish(noon, needed * hour) / hour for needed in (0.0, 1.0, 2.0, 3.0, 5.0)]
    assert hours == [0.0, 2.0, 3.0, 26.0, 50.0]
    assert window.seconds_to_finish(noon + 2 * hour, hour) == hour
    assert window.seconds_to_finish(noon + 2 * hour, 1.5 * hour) == 23.5 * hour
