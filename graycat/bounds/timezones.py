"""Time zones by their names in the IANA database, such as ``Europe/Berlin``."""

from __future__ import annotations

from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from graycat.bounds.names import find_nearest


def load_timezone(name: str) -> ZoneInfo:
    """Return a time zone. Raises ValueError for an unknown name, with the nearest one."""
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError):
        nearest = find_nearest(name, _zones(), _zones_by_place())
        hint = "use a name like Europe/Berlin, or UTC"
        if nearest:
            hint = f"did you mean {nearest!r}?"
        raise ValueError(f"there is no time zone {name[:60]!r}; {hint}") from None


@cache
def _zones() -> frozenset[str]:
    # The names are those of some 600 files, each of which is opened.
    return frozenset(available_timezones())


@cache
def _zones_by_place() -> dict[str, str]:
    """Return the zone of each place in small letters: that of ``new_york`` is ``America/New_York``."""
    zones: dict[str, str] = {}
    names_alone = {zone.lower() for zone in _zones()}
    # Of two that end alike, such as America/Indianapolis and America/Indiana/Indianapolis, the shorter one.
    for zone in sorted(_zones(), key=lambda zone: (len(zone), zone)):
        place = zone.rpartition("/")[2].lower()
        if place not in names_alone:
            zones.setdefault(place, zone)
    return zones
