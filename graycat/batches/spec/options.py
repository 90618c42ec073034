"""The options of a batch: its output, webhook, deadline, time window, and its limits of failures and GPUs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from graycat.batches.spec import filenames
from graycat.batches.spec.reader import FieldReader, Problems
from graycat.batches.spec.windows import Window
from graycat.bounds.stored import parse_json
from graycat.bounds.timezones import load_timezone
from graycat.images.webui_requests import split_names
from graycat.settings import Settings
from graycat.webhooks import webhook as webhooks

OUTPUT_FIELDS = ("folder", "pattern", "store")
OPTION_FIELDS = ("output", "webhook", "deadline", "max_failures", "window", "timezone", "max_gpus")
MAX_DEADLINE_S = 90 * 24 * 3600.0
MAX_GPUS = 1000


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """Checked options. ``store``: the operator's name of the store that has the folder, '' for the default store."""

    folder: str = filenames.DEFAULT_FOLDER
    pattern: str = filenames.DEFAULT_PATTERN
    store: str = ""
    webhook: str = field(default="", repr=False)
    deadline_s: float | None = None
    max_failures: int | None = None
    window: str = ""
    timezone: str = "UTC"
    max_gpus: int | None = None

    def parse_window(self) -> Window | None:
        """Return the times of day in which the batch may start items; None if it may at any time."""
        if not self.window:
            return None
        return Window.parse(self.window, self.timezone)

    def to_json(self) -> str:
        """Return the options as the batch's record holds them."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> BatchOptions:
        """Return the options that a record holds."""
        values = parse_json(text)
        if not isinstance(values, dict):
            raise TypeError("the options are no object")
        # Those of a newer version are left out.
        return cls(**{option.name: values[option.name] for option in fields(cls) if option.name in values})


def parse_stores(settings: Settings) -> dict[str, str]:
    """Return the URLs of the stores that callers may name (``GRAYCAT_BATCH_STORES``), by their names."""
    urls = {}
    for pair in split_names(settings.batch_stores):
        name, _, url = pair.partition("=")
        urls[name.strip()] = url.strip()
    return urls


def read_options(reader: FieldReader, settings: Settings) -> BatchOptions:
    """Return the options in a document. Problems are added to the reader's."""
    problems: Problems = reader.problems
    folder, pattern, store = _read_output(reader.read_object("output", text_field="folder"), settings)

    timezone = reader.read_text("timezone", "UTC")
    problems.attempt("timezone", lambda: load_timezone(timezone))
    window = reader.read_text("window")
    if window:
        problems.attempt("window", lambda: Window.parse(window, "UTC"))

    webhook = None
    webhook_field: Any = reader.take("webhook")
    if webhook_field is not None:
        webhook = problems.attempt("webhook", lambda: webhooks.parse(webhook_field, settings))

    return BatchOptions(
        folder=folder,
        pattern=pattern,
        store=store,
        webhook=webhook.to_json() if webhook else "",
        deadline_s=reader.read_duration("deadline", MAX_DEADLINE_S),
        max_failures=reader.read_count("max_failures", 0, settings.batch_max_items),
        window=window,
        timezone=timezone,
        max_gpus=reader.read_count("max_gpus", 1, MAX_GPUS),
    )


def _read_output(reader: FieldReader | None, settings: Settings) -> tuple[str, str, str]:
    """Return folder pattern, file name pattern and store."""
    if reader is None:
        return filenames.DEFAULT_FOLDER, filenames.DEFAULT_PATTERN, ""

    folder = reader.read_text("folder", filenames.DEFAULT_FOLDER)
    problem = filenames.check_pattern(folder, filenames.FOLDER_NAMES)
    if problem:
        reader.add_problem("folder", problem)

    pattern = reader.read_text("pattern", filenames.DEFAULT_PATTERN)
    # A file name may use any field of the item's request, so the names are not limited.
    problem = filenames.check_pattern(filenames.strip_extension(pattern), None)
    if problem:
        reader.add_problem("pattern", problem)

    store = reader.read_text("store")
    allowed = parse_stores(settings)
    if store and store not in allowed:
        names = ", ".join(sorted(allowed)) or "none"
        reader.add_problem("store", f"must be a store of GRAYCAT_BATCH_STORES; this server has: {names}")
    reader.refuse_unknown(OUTPUT_FIELDS)
    return folder, pattern, store
