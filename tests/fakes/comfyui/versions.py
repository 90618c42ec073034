"""Which release has what: section 1 of the reference."""

from __future__ import annotations

from typing import NamedTuple

Version = tuple[int, ...]


def parsed(version: str) -> Version:
    """Return a version as numbers that compare."""
    return tuple(int(part) for part in version.split("."))


class Habits(NamedTuple):
    """What a release does. Each field has the release that was the first to."""

    client_ids: bool  # 0.3.45
    progress_state: bool  # 0.3.45
    targeted_interrupt: bool  # 0.3.57
    create_time: bool  # 0.3.69
    preview_method: bool  # 0.5.0: extra_data.preview_method
    hides_keys: bool  # 0.3.68: API keys of prompts in /queue
    jobs: bool  # 0.6.0
    throttled: bool  # 0.9.2
    missing_node_type: bool  # 0.12.0
    fetch_site: bool  # 0.19.0: 403 on Sec-Fetch-Site: cross-site
    dependency_cycle: bool  # 0.20.0
    only_uuids: bool  # after the 0.24.0 release; the tree that was measured has it and still calls itself that
    cancels_jobs: bool  # after 0.24.0


def habits_of(version: str) -> Habits:
    """Return what a release does."""
    own = parsed(version)
    first = ("0.3.45", "0.3.45", "0.3.57", "0.3.69", "0.5.0", "0.3.68", "0.6.0")
    later = ("0.9.2", "0.12.0", "0.19.0", "0.20.0", "0.24.0", "0.25.0")
    return Habits(*(own >= parsed(release) for release in first + later))
