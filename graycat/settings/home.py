"""Who may read what graycat writes: its own user alone, whatever the umask says and whatever an older release left."""

from __future__ import annotations

import os
import stat
from pathlib import Path

PRIVATE_FOLDER, PRIVATE_FILE = 0o700, 0o600
#: What group and others may do.
_OTHERS = 0o077
#: What graycat keeps in its home: folders with prompts, outputs or secrets, files of secrets, and the rest.
FOLDERS = ("batches", "broker", "flower", "log", "metrics")
SECRETS = ("api-token", "flower-password", "metrics-token", "token-key", "webhook-key")
OTHERS = ("lock", "models", "up.json", "up.new")


def keep_private() -> None:
    """Have everything that this process and its children create be for their user alone.

    A umask, not a mode for each file: where a folder has a default ACL, that decides instead, so an operator can still
    open the output of batches to a group.
    """
    os.umask(_OTHERS | os.umask(_OTHERS))


def tighten_home(home: Path) -> None:
    """Create the home, and take away from others what an older release or a umask has given them.

    The home itself is left as it is if it holds anything that is not graycat's: it is a folder of the operator's.
    """
    home.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    if all(_is_own(entry.name) for entry in home.iterdir()):
        _tighten(home)
    for name in (*FOLDERS, *SECRETS):
        _tighten(home / name)


def _is_own(name: str) -> bool:
    # A secret is written under a longer name first.
    return name in (*FOLDERS, *OTHERS) or name.startswith(SECRETS)


def _tighten(path: Path) -> None:
    """Take a file or a folder of this user's from all others; a link, or what belongs to somebody else, is left."""
    try:
        status = path.lstat()
    except OSError:
        return
    if stat.S_ISLNK(status.st_mode) or status.st_uid != os.getuid() or not status.st_mode & _OTHERS:
        return
    path.chmod(stat.S_IMODE(status.st_mode) & ~_OTHERS)
