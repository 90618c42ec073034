"""Small disks for one system, mounted in a namespace of its own: nobody needs to be root, and nobody else sees them."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk: where it is mounted below the home, what lies on it, and how large it is (MiB)."""

    path: str
    what: str
    size_mib: int

    def folder(self, home: Path) -> Path:
        """Return where it is mounted."""
        return home / self.path


DISKS = {
    "batches": Disk("batches", "batches", 8),
    "artifacts": Disk("artifacts", "artifacts", 8),
    "logs": Disk("log", "the engines' logs", 8),
    "broker": Disk("broker", "the broker's file", 64),
}


def settings(home: Path) -> dict[str, str]:
    """Return the settings of a system with these disks."""
    return {"GRAYCAT_ARTIFACTS_URL": f"file://{DISKS['artifacts'].folder(home)}"}


def prefix(home: Path) -> list[str]:
    """Return the words that run a command behind them with these disks."""
    lines = []
    for disk in DISKS.values():
        folder = shlex.quote(str(disk.folder(home)))
        lines.append(f"mkdir -p {folder} && mount -t tmpfs -o mode=700,size={disk.size_mib}m none {folder}")
    return ["unshare", "-rm", "sh", "-c", " && ".join(lines) + ' && exec "$@"', "sh"]


def may_mount(home: Path) -> bool:
    """Return whether this user may mount a small disk in a namespace of its own."""
    command = [*prefix(home), "true"]
    try:
        return subprocess.run(command, check=False, capture_output=True, timeout=20).returncode == 0
    except OSError:
        return False
