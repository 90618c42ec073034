from __future__ import annotations

from datetime import date

from graycat.usage.amounts import NAMES, Amounts, Row, add_up, day_of, field_names, parse_rows

DAY = date(2026, 11, 29)


def test_a_row_is_read_back_from_its_fields_whatever_its_owner_is_called() -> None:
    row = Row("my game", DAY, "llm", Amounts(requests=3, failed=1, prompt_tokens=40, engine_ms=1500))
    fields = dict(zip(field_names("my game", "llm"), (3, 1, 0, 40, 0, 0, 1500), strict=True))
    hashed = {name.encode(): str(value).encode() for name, value in fields.items()}
    assert list(parse_rows(DAY, hashed)) == [row]
    assert [row.field(name) for name in NAMES] == list(fields)


def test_what_another_program_has_written_there_is_left_out() -> None:
    foreign = {
        b"game llm requests": b"2",
        b"game llm images": b"many",
        b"game llm shoes": b"2",
        b"\xff": b"1",
        b"": b"1",
    }
    assert list(parse_rows(DAY, foreign)) == [Row("game", DAY, "llm", Amounts(requests=2))]


def test_rows_are_shown_with_seconds_and_added_up() -> None:
    rows = [Row(owner, DAY, "sd", Amounts(requests=1, images=4, engine_ms=2500)) for owner in ("a", "b")]
    assert rows[0].to_dict() == {
        "owner": "a", "day": "2026-11-29", "family": "sd", "requests": 1, "failed": 0, "cancelled": 0,
        "prompt_tokens": 0, "completion_tokens": 0, "images": 4, "gpu_seconds": 2.5,
    }  # fmt: skip
    assert add_up(rows) == Amounts(requests=2, images=8, engine_ms=5000)


def test_days_begin_at_midnight_utc() -> None:
    midnight_ms = 1_795_910_400_000
    assert (day_of(midnight_ms - 1), day_of(midnight_ms)) == (date(2026, 11, 28), DAY)
