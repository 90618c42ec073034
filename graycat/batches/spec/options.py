"""What a batch may do beside its images: where it writes, when, how long, on how many GPUs, and whom it tells."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from graycat.batches.spec import filenames
from graycat.batches.spec.reader import Problems, Reader
from graycat.batches.spec.windows import Window, zone
from graycat.images.webui_requests import names
from graycat.settings import Settings
from graycat.webhooks import webhook as webhooks

OUTPUT_FIELDS = ("folder", "pattern", "store")
TERM_FIELDS = ("output", "webhook", "deadline", "max_failures", "window", "timezone", "max_gpus")
MAX_DEADLINE_S = 90 * 24 * 3600.0
MAX_GPUS = 1000


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """Checked. ``store``: the operator's name of where the folder lies, '' for the usual place."""

    folder: str = filenames.DEFAULT_FOLDER
    pattern: str = filenames.DEFAULT_PATTERN
    store: str = ""
    webhook: str = field(default="", repr=False)
    deadline_s: float | None = None
    max_failures: int | None = None
    window: str = ""
    timezone: str = "UTC"
    max_gpus: int | None = None

    @property
    def hours(self) -> Window | None:
        """Return the times of day in which it may start items; None for all."""
        return Window.parse(self.window, self.timezone) if self.window else None

    def encoded(self) -> str:
        """Return what the batch's record holds."""
        return json.dumps(asdict(self))

    @classmethod
    def from_record(cls, text: str) -> BatchOptions:
        """Return the terms that a record holds."""
        return cls(**json.loads(text))


def stores(settings: Settings) -> dict[str, str]:
    """Return the addresses of the stores that callers may name (``GRAYCAT_BATCH_STORES``), by their names."""
    pairs = (item.partition("=") for item in names(settings.batch_stores))
    return {name.strip(): url.strip() for name, _, url in pairs}


def read(reader: Reader, settings: Settings) -> BatchOptions:
    """Return the terms in a document; what is wrong is noted."""
    problems: Problems = reader.problems
    folder, pattern, store = _output(reader.part("output", wrap="folder"), settings)
    timezone = reader.text("timezone", "UTC")
    problems.attempt("timezone", lambda: zone(timezone))
    window = reader.text("window")
    if window:
        problems.attempt("window", lambda: Window.parse(window, "UTC"))
    given: Any = reader.take("webhook")
    webhook = problems.attempt("webhook", lambda: webhooks.parse(given, settings)) if given is not None else None
    return BatchOptions(
        folder=folder,
        pattern=pattern,
        store=store,
        webhook=webhook.encoded() if webhook else "",
        deadline_s=reader.duration("deadline", MAX_DEADLINE_S),
        max_failures=reader.count("max_failures", 0, settings.batch_max_items),
        window=window,
        timezone=timezone,
        max_gpus=reader.count("max_gpus", 1, MAX_GPUS),
    )


def _output(reader: Reader | None, settings: Settings) -> tuple[str, str, str]:
    if reader is None:
        return filenames.DEFAULT_FOLDER, filenames.DEFAULT_PATTERN, ""
    folder = reader.text("folder", filenames.DEFAULT_FOLDER)
    if wrong := filenames.complaint(folder, filenames.FOLDER_NAMES):
        reader.problems.note(reader.path("folder"), wrong)
    pattern = reader.text("pattern", filenames.DEFAULT_PATTERN)
    # Beside the names of our own, any field of the item's request.
    if wrong := filenames.complaint(filenames.stem(pattern), None):
        reader.problems.note(reader.path("pattern"), wrong)
    store, allowed = reader.text("store"), stores(settings)
    if store and store not in allowed:
        told = f"this server has {', '.join(sorted(allowed))}" if allowed else "this server names none"
        reader.problems.note(reader.path("store"), f"must be one that GRAYCAT_BATCH_STORES names; {told}")
    reader.end(OUTPUT_FIELDS)
    return folder, pattern, store
