"""A schedule as its owner writes it: checked as a whole, its batch included, before it is kept."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from graycat.batches import spec as batch_spec
from graycat.batches.errors import InvalidBatch
from graycat.schedules.due import MAX_JITTER_S, MISSED, ONCE, Cron, Timing
from graycat.schedules.errors import InvalidSchedule
from graycat.settings import Settings

#: What happens at a time at which the schedule's last batch is not over.
SKIP, QUEUE, CANCEL, ALLOW = OVERLAPS = ("skip", "queue", "cancel-previous", "allow")
FIELDS = ("name", "cron", "timezone", "spec", "missed", "overlap", "jitter_s", "window", "max_gpus")
#: Characters of a schedule with its batch: all are looked at every few seconds.
MAX_CHARS = 1_000_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Schedule:
    """When which batch is submitted. ``spec``: the batch's document; ``window`` and ``max_gpus`` go with it."""

    name: str
    owner: str
    cron: str
    timezone: str
    spec: dict[str, Any]
    missed: str = ONCE
    overlap: str = SKIP
    jitter_s: int = 0
    window: str | None = None
    max_gpus: int | None = None

    @classmethod
    def read(cls, body: dict[str, Any], owner: str, settings: Settings, most_pixels: int | None = None) -> Schedule:
        """Return the schedule that a JSON object asks for. Raises InvalidSchedule, InvalidBatch.

        ``most_pixels``: what the owner's API token may ask for in one image. Decodes the images of the batch.
        """
        if unknown := sorted(body.keys() - set(FIELDS)):
            raise InvalidSchedule(f"there is no field {unknown[0][:100]!r}; a schedule has {', '.join(FIELDS)}")
        schedule = cls(
            name=check_name(body.get("name")),
            owner=owner,
            cron=" ".join(_text(body, "cron", required=True).split()),
            timezone=_text(body, "timezone") or "UTC",
            spec=_spec(body),
            missed=_choice(body, "missed", MISSED, ONCE),
            overlap=_choice(body, "overlap", OVERLAPS, SKIP),
            jitter_s=_count(body, "jitter_s", MAX_JITTER_S) or 0,
            window=_text(body, "window") or None,
            max_gpus=_count(body, "max_gpus"),
        )
        schedule.timing()
        try:
            batch_spec.parse(schedule.document(), settings, most_pixels)
        except InvalidBatch as error:
            # Those that the schedule itself brings are named as its caller wrote them.
            own = ("window", "timezone", "max_gpus")
            named = [
                (path if path in own else f"spec.{path}" if path else "spec", told) for path, told in error.problems
            ]
            raise InvalidBatch(named) from None
        if len(schedule.encoded()) > MAX_CHARS:
            raise InvalidSchedule(f"'spec' is too long: a schedule may have {MAX_CHARS} characters")
        return schedule

    @property
    def id(self) -> str:
        """Return what the broker calls it; neither part has a colon."""
        return f"{self.owner}:{self.name}"

    def timing(self) -> Timing:
        """Return when it fires. Raises InvalidSchedule."""
        return Timing(Cron(self.cron, self.timezone), self.missed, self.jitter_s, self.id)

    def document(self) -> dict[str, Any]:
        """Return the document of its batches. What the schedule says of hours and GPUs counts for them."""
        document = {"name": self.name} | self.spec
        if self.window is not None:
            document |= {"window": self.window, "timezone": self.timezone}
        if self.max_gpus is not None:
            document["max_gpus"] = self.max_gpus
        return document

    def key(self, time: int) -> str:
        """Return the key that a nominal time's batch is submitted under: however often that is, it is one batch."""
        return f"schedule/{self.name}/{datetime.fromtimestamp(time, UTC):%Y%m%dT%H%M%SZ}"

    def encoded(self) -> str:
        """Return what its record holds."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_record(cls, text: str | bytes) -> Schedule:
        """Return the schedule that a record holds."""
        return cls(**json.loads(text))

    def shown(self) -> dict[str, Any]:
        """Return what its owner sees: all but the secret of a webhook."""
        shown = {name: getattr(self, name) for name in ("owner", *FIELDS)}
        if isinstance(webhook := self.spec.get("webhook"), dict):
            told = {name: value for name, value in webhook.items() if name != "secret"}
            shown["spec"] = self.spec | {"webhook": told}
        return shown


def check_name(name: Any) -> str:
    """Return a schedule's name. Raises InvalidSchedule."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidSchedule(
            "'name' is required: 1 to 64 letters, digits, dots, dashes and underscores, a letter or digit first"
        )
    return name


def _spec(body: dict[str, Any]) -> dict[str, Any]:
    found = body.get("spec")
    if not isinstance(found, dict):
        raise InvalidSchedule("'spec' is required: the batch that is submitted, an object")
    return found


def _text(body: dict[str, Any], field: str, *, required: bool = False) -> str:
    value = body.get(field)
    if value is None and not required:
        return ""
    if not isinstance(value, str):
        raise InvalidSchedule(f"{field!r} {'is required and ' if value is None else ''}must be a text")
    return value.strip()


def _choice(body: dict[str, Any], field: str, choices: tuple[str, ...], usual: str) -> str:
    value = body.get(field)
    if value is None:
        return usual
    if value not in choices:
        raise InvalidSchedule(f"{field!r} must be one of {', '.join(choices)}")
    return str(value)


def _count(body: dict[str, Any], field: str, most: int | None = None) -> int | None:
    value = body.get(field)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0 or (most is not None and value > most):
        raise InvalidSchedule(f"{field!r} must be a whole number, 0 {f'to {most}' if most is not None else 'or more'}")
    return value
