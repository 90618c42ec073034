"""The amounts that are counted, and how the broker has them: a hash for each day, a field ``OWNER FAMILY AMOUNT``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from typing import Any


@dataclass(slots=True)
class Amounts:
    """What was used. Names of fields are also those in the broker."""

    #: Tasks that have ended, in whatever way; of these the failed and expired, and the cancelled.
    requests: int = 0
    failed: int = 0
    cancelled: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    images: int = 0
    #: Milliseconds for which attempts have had an engine.
    engine_ms: int = 0

    @property
    def measured(self) -> dict[str, int]:
        """Return what engines did, by the names of the fields."""
        return {name: getattr(self, name) for name in NAMES[3:]}

    def add(self, other: Amounts) -> None:
        """Add other amounts to these."""
        for name in NAMES:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def to_dict(self) -> dict[str, Any]:
        """Return them as JSON, with the engines' time in seconds."""
        shown: dict[str, Any] = {name: getattr(self, name) for name in NAMES if name != "engine_ms"}
        shown["gpu_seconds"] = self.engine_ms / 1000
        return shown


NAMES = tuple(field.name for field in fields(Amounts))


@dataclass(frozen=True, slots=True)
class Row:
    """What one API token used of one family of engines on one day (UTC)."""

    owner: str
    day: date
    family: str
    amounts: Amounts

    def field(self, name: str) -> str:
        """Return the field of one of its amounts in the day's hash."""
        return f"{self.owner} {self.family} {name}"

    def to_dict(self) -> dict[str, Any]:
        """Return the row as JSON."""
        return {"owner": self.owner, "day": self.day.isoformat(), "family": self.family} | self.amounts.to_dict()


def day_of(time_ms: int) -> date:
    """Return the day (UTC) of a time in milliseconds of the epoch."""
    return datetime.fromtimestamp(time_ms // 1000, UTC).date()


def field_names(owner: str, family: str) -> list[str]:
    """Return the fields of a row in a day's hash."""
    return [f"{owner} {family} {name}" for name in NAMES]


def parse_rows(day: date, hashed: Mapping[bytes, bytes]) -> Iterator[Row]:
    """Yield the rows of a day's hash, sorted. Fields that are not ours are left out."""
    rows: dict[tuple[str, str], Amounts] = {}
    for field, value in hashed.items():
        owner, family, name = _split(field)
        if name in NAMES and value.isdigit():
            setattr(rows.setdefault((owner, family), Amounts()), name, int(value))
    for (owner, family), amounts in sorted(rows.items(), key=lambda item: item[0]):
        yield Row(owner, day, family, amounts)


def add_up(rows: Iterable[Row]) -> Amounts:
    """Return the sum of rows."""
    total = Amounts()
    for row in rows:
        total.add(row.amounts)
    return total


def _split(field: bytes) -> tuple[str, str, str]:
    """Return owner, family and amount; an owner's name may have blanks."""
    head, _, name = field.decode(errors="replace").rpartition(" ")
    owner, _, family = head.rpartition(" ")
    return owner, family, name
