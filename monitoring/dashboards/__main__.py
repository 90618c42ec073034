"""Write the dashboards' JSON; ``--check`` only tells whether it is what is there."""

from __future__ import annotations

import sys
from pathlib import Path

from monitoring.dashboards.inside import BROKER, CELERY, QUEUES
from monitoring.dashboards.panels import Dashboard
from monitoring.dashboards.serving import FLEET, GAMES

FOLDER = Path(__file__).resolve().parents[1] / "grafana" / "dashboards"
DASHBOARDS: tuple[Dashboard, ...] = (GAMES, FLEET, QUEUES, CELERY, BROKER)


def files() -> dict[Path, str]:
    """Return the text of each dashboard's file."""
    return {FOLDER / f"{dashboard.uid}.json": dashboard.text() for dashboard in DASHBOARDS}


def stale() -> list[Path]:
    """Return the files that are not as the code says, those among them that it does not know."""
    wanted = files()
    there = set(FOLDER.glob("*.json"))
    return sorted(path for path in wanted.keys() | there if path not in there or path.read_text() != wanted.get(path))


def main() -> None:
    """Write every file anew; with ``--check``, end with 1 where one is stale."""
    if "--check" in sys.argv[1:]:
        sys.exit(f"stale: {', '.join(path.name for path in stale())}" if stale() else 0)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path, text in files().items():
        path.write_text(text)
    for path in set(FOLDER.glob("*.json")) - files().keys():
        path.unlink()


if __name__ == "__main__":
    main()
