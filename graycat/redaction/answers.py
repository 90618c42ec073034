"""What engines tell about themselves, as callers may read it: one table of what is hidden on which route."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from graycat.redaction.paths import hide_paths


@dataclass(frozen=True)
class Hiding:
    """What a route's answer lacks; file paths are cut to their last parts in all of them.

    ``kept``: the only fields of each entry that stay; None: all. ``dropped``: fields that go, at any depth.
    ``emptied``: fields that stay as an empty string, at any depth: clients may look for them.
    """

    kept: frozenset[str] | None = None
    dropped: frozenset[str] = frozenset()
    emptied: frozenset[str] = frozenset()


#: The fields of a slot that say only whether it works.
SLOT_STATE = frozenset({"id", "id_task", "n_ctx", "speculative", "is_processing", "state"})
#: What a slot was asked and what it wrote. It stays in its worker, also from admins.
SLOT_TEXTS = frozenset({"prompt", "generated"})

#: By the engine's route, or the name of a WebUI's list: what callers without the scope ``admin`` do not see.
HIDDEN = {
    # Servers of 2024 describe their first slot here, with what it last did.
    "/props": Hiding(emptied=frozenset({"prompt", "grammar"})),
    # A router lists the command line of each server that it starts.
    "/v1/models": Hiding(dropped=frozenset({"args", "preset"})),
    "/slots": Hiding(kept=SLOT_STATE),
    "/lora-adapters": Hiding(),
    # Notes of who trained them: folders, commands, captions.
    "loras": Hiding(dropped=frozenset({"metadata"})),
}
_PATHS_ONLY = Hiding()


def hide(route: str, value: Any) -> Any:
    """Return an answer of a route as callers without the scope ``admin`` may read it.

    Raises ValueError if it is nested too deeply.
    """
    try:
        return _hide(HIDDEN.get(route, _PATHS_ONLY), value)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None


def hide_in_reply(route: str, reply: bytes) -> bytes:
    """Return an answer's JSON as ``hide`` does: its own bytes if nothing is hidden, ``null`` if it is no JSON."""
    try:
        value = json.loads(reply)
        hidden = hide(route, value)
    except (ValueError, RecursionError):
        return b"null"
    if hidden == value:
        return reply
    return json.dumps(hidden).encode()


def hide_slot_texts(slots: Any) -> Any:
    """Return an engine's answer to ``/slots`` without prompts and answers."""
    return _strip(slots, Hiding(dropped=SLOT_TEXTS))


def _hide(hiding: Hiding, value: Any) -> Any:
    if hiding.kept is not None:
        value = _keep(value, hiding.kept)
    if hiding.dropped or hiding.emptied:
        value = _strip(value, hiding)
    return hide_paths(value)


def _keep(value: Any, names: frozenset[str]) -> Any:
    if not isinstance(value, list):
        return []
    kept = []
    for entry in value:
        if isinstance(entry, dict):
            kept.append({name: field for name, field in entry.items() if name in names})
    return kept


def _strip(value: Any, hiding: Hiding) -> Any:
    if isinstance(value, list):
        return [_strip(entry, hiding) for entry in value]
    if not isinstance(value, dict):
        return value
    stripped = {}
    for name, field in value.items():
        if name in hiding.emptied and field:
            stripped[name] = ""
        elif name not in hiding.dropped:
            stripped[name] = _strip(field, hiding)
    return stripped
