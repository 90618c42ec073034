"""The operator's declarative schedules file: schedules are created, changed and deleted to match it.

Each schedule is a ``[[schedule]]`` table with the fields of ``POST /schedules``. It may also have an ``owner``
(the name of an API token), and it may name a ``spec_file`` instead of having a ``spec``.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from graycat.auth import tokens
from graycat.batches import spec as batch_spec
from graycat.bounds import documents
from graycat.errors import BrokerUnavailable, RequestError, SettingsError
from graycat.loops.unexpected import guarded
from graycat.schedules.definition import Schedule
from graycat.schedules.errors import ScheduleExists
from graycat.schedules.records import SOURCE_FILE, ScheduleRecords
from graycat.settings import Settings

logger = logging.getLogger(__name__)

#: The format of a batch's spec, by the extension of its file.
FORMATS = {".toml": "toml", ".yaml": "yaml", ".yml": "yaml", ".json": "json"}


def load(settings: Settings) -> list[Schedule]:
    """Return the schedules in the file; none if there is no file. Raises SettingsError, which names the mistake."""
    path = settings.schedules_file
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SettingsError(f"{path}: {documents.describe_file_error(error)}") from None
    try:
        document = documents.parse(documents.decode(raw), "toml")
    except ValueError as error:
        raise SettingsError(f"{path}: {error}") from None
    tables = document.pop("schedule", [])
    if document or not isinstance(tables, list):
        raise SettingsError(f"{path} must hold [[schedule]] tables, and nothing else")

    schedules: dict[str, Schedule] = {}
    for number, table in enumerate(tables, start=1):
        location = f"{path}: schedule {number}"
        try:
            schedule = _read_table(table, path.parent, settings)
        except RequestError as error:
            raise SettingsError(f"{location}: {error}") from None
        if schedule.id in schedules:
            raise SettingsError(f"{location}: {schedule.owner!r} has another schedule {schedule.name!r} in this file")
        schedules[schedule.id] = schedule
    return list(schedules.values())


def sync(records: ScheduleRecords, schedules: Sequence[Schedule]) -> None:
    """Make the broker's schedules from the file equal to ``schedules``. Raises BrokerUnavailable."""
    ids = {schedule.id for schedule in schedules}
    for state in records.load_states():
        stored = state.schedule
        if state.source == SOURCE_FILE and stored.id not in ids:
            with guarded("schedules", let_through=(BrokerUnavailable,)):
                records.remove(stored.owner, stored.name, SOURCE_FILE)
                logger.warning("schedule removed: it is no longer in the file", extra={"schedule": stored.id})

    for schedule in schedules:
        with guarded("schedules", let_through=(BrokerUnavailable,)):
            _put(records, schedule)


def _put(records: ScheduleRecords, schedule: Schedule) -> None:
    try:
        outcome = records.put(schedule, replace=True, source=SOURCE_FILE)
    except ScheduleExists:
        message = "schedule of the file left out: one with its name was created over REST"
        logger.warning(message, extra={"schedule": schedule.id})
    else:
        logger.info("schedule of the file", extra={"schedule": schedule.id, "outcome": outcome})


def _read_table(table: Any, folder: Path, settings: Settings) -> Schedule:
    if not isinstance(table, dict):
        raise RequestError("must be a table")
    body = dict(table)
    owner = body.pop("owner", None)
    if owner is None:
        # The first API token of the settings, or the generated one.
        owner = next(iter(tokens.parse_api_tokens(settings)), tokens.GENERATED)
    if not isinstance(owner, str) or not owner or ":" in owner:
        raise RequestError("'owner' must be the name of an API token")

    file_name = body.pop("spec_file", None)
    if file_name is not None:
        if "spec" in body or not isinstance(file_name, str):
            raise RequestError("'spec_file' must be a file's name, and cannot be combined with 'spec'")
        body["spec"] = _load_spec(folder / file_name)
    return Schedule.read(body, owner, settings)


def _load_spec(path: Path) -> dict[str, Any]:
    if path.suffix.lower() not in FORMATS:
        raise RequestError(f"'spec_file': {path} must end in {', '.join(FORMATS)}")
    try:
        text = documents.read_text_file(path)
    except ValueError as error:
        raise RequestError(f"'spec_file': {path}: {error}") from None
    return batch_spec.load(text, FORMATS[path.suffix.lower()])
