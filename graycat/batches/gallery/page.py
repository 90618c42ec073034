"""The gallery page of a batch: each image with its prompt, seed and state. Served on the web and written to the folder.

Style and script are inside the page. A content security policy with their hashes lets nothing else run, whatever a
prompt holds.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from graycat.batches.labels import ELLIPSIS

if TYPE_CHECKING:
    from jinja2 import Template

#: Characters of an image's alternative text.
MAX_ALT_CHARS = 300
#: Characters of an error on a card.
MAX_ERROR_CHARS = 500

_TEMPLATES = Path(__file__).parent / "templates"
# Neither holds the closing tag of its own element.
_STYLE = (_TEMPLATES / "gallery.css").read_text(encoding="utf-8")
_SCRIPT = (_TEMPLATES / "gallery.js").read_text(encoding="utf-8")


def _csp_hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


_SOURCES = f"script-src {_csp_hash(_SCRIPT)}; style-src {_csp_hash(_STYLE)}; base-uri 'none'; form-action 'none'"
#: The content security policy of the page on the web.
POLICY = f"default-src 'none'; img-src 'self' data:; connect-src 'self'; {_SOURCES}; frame-ancestors 'none'"
#: The policy of the page in a folder, which may be opened as a file.
FOLDER_POLICY = f"default-src 'none'; img-src 'self' file: data:; {_SOURCES}"


@cache
def _load_template() -> Template:
    # The control worker loads Jinja when it writes its first gallery.
    from jinja2 import Environment, FileSystemLoader

    return Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True).get_template("gallery.html")


@dataclass(frozen=True, slots=True)
class Card:
    """One item on the page. ``label``: what it is among the others; '' if its prompt says that.

    ``image`` and ``thumbnail`` are URLs, '' if there is no image yet.
    """

    number: int
    state: str
    prompt: str
    seed: int | None
    error: str = ""
    label: str = ""
    image: str = ""
    thumbnail: str = ""

    @property
    def alt(self) -> str:
        """Return the image's alternative text."""
        text = f"Image {self.number}"
        told = ". ".join(filter(None, (self.label, self.prompt)))
        if told:
            text = f"{text}: {told}"
        if len(text) > MAX_ALT_CHARS:
            text = text[: MAX_ALT_CHARS - 1] + ELLIPSIS
        return text

    def to_dict(self) -> dict[str, Any]:
        """Return the card as the page's script reads it."""
        return asdict(self) | {"alt": self.alt}


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a batch. ``finished``: how many of the ``total`` items are done, failed or cancelled.

    ``live``: the URL that the script polls for changes; ``all``: the URL of the zip. Both may be ''.
    """

    name: str
    summary: str
    total: int
    finished: int
    cards: Sequence[Card]
    previous: str = ""
    following: str = ""
    live: str = ""
    all: str = ""
    in_a_folder: bool = False


def build_card(row: Mapping[str, Any], image: str = "", thumbnail: str = "") -> Card:
    """Return the card of an item of ``BatchRecords.list_items``."""
    seed = row["seed"]
    if not isinstance(seed, int) or seed < 0:
        seed = None
    error = row.get("error") or ""
    if isinstance(error, Mapping):
        error = error.get("message") or error.get("type") or ""
    label = row.get("label", "")
    if " ".join(row["prompt"].split()).startswith(label.removesuffix(ELLIPSIS)):
        # The prompt says it, and is not cut.
        label = ""
    return Card(row["number"], row["state"], row["prompt"], seed, str(error)[:MAX_ERROR_CHARS], label, image, thumbnail)


def count_finished(progress: Mapping[str, int]) -> int:
    """Return how many items are done, failed or cancelled, by the counts of the states."""
    return progress.get("done", 0) + progress.get("failed", 0) + progress.get("cancelled", 0)


def summarize(view: Mapping[str, Any]) -> str:
    """Return a batch's progress as a sentence."""
    progress = view["progress"]
    parts = [f"{view['state']}: {progress.get('done', 0)} of {view['total']} images done"]
    for state in ("failed", "cancelled", "running"):
        if progress.get(state):
            parts.append(f"{progress[state]} {state}")
    if view.get("eta_s"):
        parts.append(f"about {_format_duration(view['eta_s'])} left")
    if view.get("reason"):
        parts.append(str(view["reason"]))
    return ", ".join(parts)


def _format_duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{round(seconds / 3600)} h"


def render(page: Page) -> str:
    """Return the page as HTML."""
    template = _load_template()
    # The style and the script are graycat's own files, so they need no escaping.
    style, script = Markup(_STYLE), Markup(_SCRIPT)  # noqa: S704
    text = template.render(page=page, style=style, script=script, folder_policy=FOLDER_POLICY)
    # A prompt that an earlier release has accepted may hold half a character, which no page can have.
    return text.encode(errors="replace").decode()
