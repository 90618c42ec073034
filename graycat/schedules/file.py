"""The operator's file of schedules: what is in it is there, what is taken out of it goes.

Each schedule is a ``[[schedule]]`` with the fields of ``POST /schedules``; beside those it may have an ``owner``, the
name of an API token, and ``spec_file`` instead of ``spec``.
"""

from __future__ import annotations

import logging
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from graycat.auth import tokens
from graycat.batches import spec as batch_spec
from graycat.errors import RequestError, SettingsError
from graycat.schedules.definition import Schedule
from graycat.schedules.errors import ScheduleExists
from graycat.schedules.records import FILE, ScheduleRecords
from graycat.settings import Settings

logger = logging.getLogger(__name__)

#: What a batch's file is written in, by the end of its name.
FORMATS = {".toml": "toml", ".yaml": "yaml", ".yml": "yaml", ".json": "json"}


def load(settings: Settings) -> list[Schedule]:
    """Return the schedules of the file; none where there is no file. Raises SettingsError, which names the mistake."""
    path = settings.schedules_file
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path}: {error}") from None
    tables = document.pop("schedule", [])
    if document or not isinstance(tables, list):
        raise SettingsError(f"{path} must hold [[schedule]] tables, and nothing else")
    found: dict[str, Schedule] = {}
    for place, table in enumerate(tables, start=1):
        named = f"{path}: schedule {place}"
        try:
            schedule = _read(table, path.parent, settings)
        except RequestError as error:
            raise SettingsError(f"{named}: {error}") from None
        if schedule.id in found:
            raise SettingsError(f"{named}: {schedule.owner!r} has a schedule {schedule.name!r} already")
        found[schedule.id] = schedule
    return list(found.values())


def sync(records: ScheduleRecords, schedules: Sequence[Schedule]) -> None:
    """Have the broker hold the file's schedules and no others of a file. Raises BrokerUnavailable."""
    kept = {schedule.id for schedule in schedules}
    for gone in _of_files(records):
        if gone.id not in kept:
            records.remove(gone.owner, gone.name, FILE)
            logger.warning("schedule removed: the file has it no more", extra={"schedule": gone.id})
    for schedule in schedules:
        try:
            done = records.put(schedule, replace=True, source=FILE)
        except ScheduleExists:
            logger.warning("schedule of the file left out: REST has one of this name", extra={"schedule": schedule.id})
        else:
            logger.info("schedule of the file", extra={"schedule": schedule.id, "outcome": done})


def _of_files(records: ScheduleRecords) -> Iterator[Schedule]:
    return (state.schedule for state in records.states() if state.source == FILE)


def _read(table: Any, folder: Path, settings: Settings) -> Schedule:
    if not isinstance(table, dict):
        raise RequestError("must be a table")
    body = dict(table)
    owner = body.pop("owner", None)
    if owner is None:
        owner = next(iter(tokens.configured(settings)), tokens.GENERATED)
    if not isinstance(owner, str) or not owner or ":" in owner:
        raise RequestError("'owner' must be the name of an API token")
    if (name := body.pop("spec_file", None)) is not None:
        if "spec" in body or not isinstance(name, str):
            raise RequestError("'spec_file' must be a file's name, and stand instead of 'spec'")
        body["spec"] = _spec(folder / name)
    return Schedule.read(body, owner, settings)


def _spec(path: Path) -> dict[str, Any]:
    if path.suffix.lower() not in FORMATS:
        raise RequestError(f"'spec_file': {path} must end in {', '.join(FORMATS)}")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise RequestError(f"'spec_file': {error}") from None
    return batch_spec.load(text, FORMATS[path.suffix.lower()])
