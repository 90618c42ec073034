"""The definition of a schedule, as its owner writes it. It is checked as a whole, together with its batch."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any

from graycat.batches import spec as batch_spec
from graycat.batches.errors import InvalidBatch
from graycat.bounds.names import suggest
from graycat.bounds.stored import parse_json
from graycat.schedules.due import MAX_JITTER_S, MISSED_POLICIES, MISSED_RUN_ONCE, Cron, Timing
from graycat.schedules.errors import InvalidSchedule
from graycat.settings import Settings

#: What to do at a time at which the schedule's last batch has not ended.
OVERLAP_SKIP = "skip"
OVERLAP_QUEUE = "queue"
OVERLAP_CANCEL = "cancel-previous"
OVERLAP_ALLOW = "allow"
OVERLAPS = (OVERLAP_SKIP, OVERLAP_QUEUE, OVERLAP_CANCEL, OVERLAP_ALLOW)
FIELDS = ("name", "cron", "timezone", "spec", "missed", "overlap", "jitter_s", "window", "max_gpus")
#: Fields that the schedule adds to the spec of its batches.
ADDED_FIELDS = ("window", "timezone", "max_gpus")
#: Fields of the batch that somebody has written beside it.
_MEANT = {field: f"spec.{field}" for field in batch_spec.FIELDS if field not in FIELDS} | {"batch": "spec"}
#: Characters of a schedule with its batch. All schedules are loaded every few seconds.
MAX_CHARS = 1_000_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Which batch is submitted when. ``spec``: the batch's document; ``window`` and ``max_gpus`` are added to it."""

    name: str
    owner: str
    cron: str
    timezone: str
    spec: dict[str, Any]
    missed: str = MISSED_RUN_ONCE
    overlap: str = OVERLAP_SKIP
    jitter_s: int = 0
    window: str | None = None
    max_gpus: int | None = None

    @classmethod
    def read(
        cls, body: dict[str, Any], owner: str, settings: Settings, token_max_pixels: int | None = None
    ) -> Schedule:
        """Return the schedule in a JSON object. Raises InvalidSchedule, InvalidBatch.

        ``token_max_pixels``: how many pixels the owner's API token may ask for in one image. Decodes the images of the
        batch.
        """
        unknown = sorted(body.keys() - set(FIELDS))
        if unknown:
            suggestion = suggest(unknown[0], FIELDS, _MEANT)
            raise InvalidSchedule(f"a schedule has no field {unknown[0][:100]!r}; {suggestion}")
        schedule = cls(
            name=check_name(body.get("name")),
            owner=owner,
            cron=" ".join(_read_text(body, "cron", required=True).split()),
            timezone=_read_text(body, "timezone") or "UTC",
            spec=_read_spec(body),
            missed=_read_choice(body, "missed", MISSED_POLICIES, MISSED_RUN_ONCE),
            overlap=_read_choice(body, "overlap", OVERLAPS, OVERLAP_SKIP),
            jitter_s=_read_count(body, "jitter_s", MAX_JITTER_S) or 0,
            window=_read_text(body, "window") or None,
            max_gpus=_read_count(body, "max_gpus"),
        )
        schedule.timing()
        try:
            batch_spec.parse(schedule.document(), settings, token_max_pixels)
        except InvalidBatch as error:
            raise InvalidBatch([(_path_in_schedule(path), message) for path, message in error.problems]) from None
        if len(schedule.to_json()) > MAX_CHARS:
            raise InvalidSchedule(f"'spec' is too long: a schedule may have {MAX_CHARS} characters")
        return schedule

    @property
    def id(self) -> str:
        """Return the schedule's id in the broker. Neither part may contain a colon."""
        return f"{self.owner}:{self.name}"

    def timing(self) -> Timing:
        """Return when it fires. Raises InvalidSchedule."""
        return Timing(Cron(self.cron, self.timezone), self.missed, self.jitter_s, self.id)

    def document(self) -> dict[str, Any]:
        """Return the document of its batches. The schedule's own window and max_gpus override those of the spec."""
        document = {"name": self.name} | self.spec
        if self.window is not None:
            document["window"] = self.window
            document["timezone"] = self.timezone
        if self.max_gpus is not None:
            document["max_gpus"] = self.max_gpus
        return document

    def batch_key(self, time: int) -> str:
        """Return the key of a nominal time's batch. Submitting it more than once makes only one batch."""
        return f"schedule/{self.name}/{datetime.fromtimestamp(time, UTC):%Y%m%dT%H%M%SZ}"

    def to_json(self) -> str:
        """Return the schedule as its record holds it."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> Schedule:
        """Return the schedule that a record holds."""
        values = parse_json(text)
        if not isinstance(values, dict) or not isinstance(values.get("spec"), dict):
            raise TypeError("the schedule is no object with a spec")
        # Fields of a newer version are left out.
        return cls(**{field.name: values[field.name] for field in fields(cls) if field.name in values})

    def to_view(self) -> dict[str, Any]:
        """Return the schedule as its owner sees it, without the webhook's secret."""
        view = {name: getattr(self, name) for name in ("owner", *FIELDS)}
        webhook = self.spec.get("webhook")
        if isinstance(webhook, dict):
            public = dict(webhook)
            public.pop("secret", None)
            view["spec"] = self.spec | {"webhook": public}
        return view


def check_name(name: Any) -> str:
    """Return a schedule's name. Raises InvalidSchedule."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidSchedule(
            "'name' is required: 1 to 64 letters, digits, dots, dashes and underscores, a letter or digit first"
        )
    return name


def _path_in_schedule(path: str) -> str:
    """Return the path in the schedule's body for the path of a problem in its batch's document."""
    if path in ADDED_FIELDS:
        return path
    if path:
        return f"spec.{path}"
    return "spec"


def _read_spec(body: dict[str, Any]) -> dict[str, Any]:
    document = body.get("spec")
    if not isinstance(document, dict):
        raise InvalidSchedule("'spec' is required: the batch that is submitted, an object")
    return document


def _read_text(body: dict[str, Any], field: str, *, required: bool = False) -> str:
    value = body.get(field)
    if value is None:
        if required:
            raise InvalidSchedule(f"{field!r} is required and must be a text")
        return ""
    if not isinstance(value, str):
        raise InvalidSchedule(f"{field!r} must be a text")
    return value.strip()


def _read_choice(body: dict[str, Any], field: str, choices: tuple[str, ...], default: str) -> str:
    value = body.get(field)
    if value is None:
        return default
    if value not in choices:
        raise InvalidSchedule(f"{field!r} must be one of {', '.join(choices)}")
    return str(value)


def _read_count(body: dict[str, Any], field: str, maximum: int | None = None) -> int | None:
    value = body.get(field)
    if value is None:
        return None
    valid = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if not valid or (maximum is not None and value > maximum):
        allowed = "0 or more" if maximum is None else f"0 to {maximum}"
        raise InvalidSchedule(f"{field!r} must be a whole number, {allowed}")
    return int(value)
