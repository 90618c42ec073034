"""The page of a batch: its images with prompt, seed and state. The same on the web and in the batch's folder.

Style and script are in it, so a policy by their hashes lets nothing else run, whatever a prompt holds.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

#: Characters of an image's alternative text.
MAX_ALT = 300

_TEMPLATES = Path(__file__).parent / "templates"
#: No text of ours ends its own element.
_STYLE, _SCRIPT = ((_TEMPLATES / f"gallery.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
_ENVIRONMENT = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True)


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


_OURS = f"script-src {_hash(_SCRIPT)}; style-src {_hash(_STYLE)}; base-uri 'none'; form-action 'none'"
#: What a browser may do with the page.
POLICY = f"default-src 'none'; img-src 'self' data:; connect-src 'self'; {_OURS}; frame-ancestors 'none'"
#: The same for the page in a folder, which may be opened as a file.
FOLDER_POLICY = f"default-src 'none'; img-src 'self' file: data:; {_OURS}"


@dataclass(frozen=True, slots=True)
class Card:
    """One item. ``image`` and ``thumbnail`` are addresses, '' as long as there is none."""

    number: int
    state: str
    prompt: str
    seed: int | None
    error: str = ""
    image: str = ""
    thumbnail: str = ""

    @property
    def alt(self) -> str:
        """Return what stands for the image where it cannot be seen."""
        text = f"Image {self.number}: {self.prompt}" if self.prompt else f"Image {self.number}"
        return text if len(text) <= MAX_ALT else text[: MAX_ALT - 1] + "…"

    def shown(self) -> dict[str, Any]:
        """Return what the page's script is told of it."""
        return asdict(self) | {"alt": self.alt}


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a batch. ``over``: items that are done or have failed, of ``total``.

    ``live``: where its script asks for news; ``all``: where all images are to be had. '' for neither.
    """

    name: str
    summary: str
    total: int
    over: int
    cards: Sequence[Card]
    previous: str = ""
    following: str = ""
    live: str = ""
    all: str = ""
    in_a_folder: bool = False


def card_of(row: Mapping[str, Any], image: str = "", thumbnail: str = "") -> Card:
    """Return an item of ``BatchRecords.items`` as a card."""
    error = row.get("error") or {}
    seed = row["seed"] if isinstance(row["seed"], int) and row["seed"] >= 0 else None
    told = str(error.get("message") or error.get("type") or "") if isinstance(error, Mapping) else str(error)
    return Card(row["number"], row["state"], row["prompt"], seed, told[:500], image, thumbnail)


def over_of(progress: Mapping[str, int]) -> int:
    """Return how many items are over, by the counts of their states."""
    return sum(progress.get(state, 0) for state in ("done", "failed", "cancelled"))


def summary_of(view: Mapping[str, Any]) -> str:
    """Return how far a batch is, in words."""
    progress, total = view["progress"], view["total"]
    told = [f"{view['state']}: {progress.get('done', 0)} of {total} images done"]
    told += [f"{progress[state]} {state}" for state in ("failed", "cancelled", "running") if progress.get(state)]
    if view.get("eta_s"):
        told.append(f"about {_span(view['eta_s'])} left")
    if view.get("reason"):
        told.append(str(view["reason"]))
    return ", ".join(told)


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{round(seconds / 3600)} h"


def render(page: Page) -> str:
    """Return the page as HTML."""
    ours = {"style": Markup(_STYLE), "script": Markup(_SCRIPT), "folder_policy": FOLDER_POLICY}  # noqa: S704 (ours)
    return _ENVIRONMENT.get_template("gallery.html").render(page=page, **ours)
