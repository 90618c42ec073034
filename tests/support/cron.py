"""A real cron daemon for a test, with a crontab of its own: it sees no other, and no other cron sees it."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.programs import IN_CI, program
from tests.support.stack import STOP_S, end_with_tests

#: The daemon's clock begins so long before the minute in which its crontab is due: a test waits no minute, and
#: cron has begun to look by then on the busiest machine.
LEAD_S = 5
#: Runs a command whose mounts nobody else sees.
OWN_MOUNTS = ("unshare", "--mount", "--propagation", "private")
#: Folders of the machine that the daemon reads and writes; it gets empty ones of its own.
OWN_FOLDERS = ("/var/spool/cron/crontabs", "/etc/cron.d", "/run")


@contextmanager
def cron_runs(crontab: str, minute: str, folder: Path) -> Iterator[None]:
    """Run Debian's cron with one crontab for the block; by its clock it is soon ``minute`` (HH:MM).

    Its jobs have the real clock: cron gives them an environment of their own. Skips without root, who alone may give a
    process mounts of its own.
    """
    cron, clock = program("cron", "cron"), _faketime()
    if subprocess.run([*OWN_MOUNTS, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("cron reads other crontabs than the machine's only in mounts of its own, for which it takes root")
    mounts = []
    for index, place in enumerate(OWN_FOLDERS):
        own = folder / f"cron-{index}"
        own.mkdir()
        mounts.append(f"mount --bind {shlex.quote(str(own))} {place}")
    table = folder / "cron-0" / "root"
    table.write_text(crontab)
    table.chmod(0o600)
    script = " && ".join([*mounts, f"exec env LD_PRELOAD={clock} {cron} -f -L 15"])
    words = [*OWN_MOUNTS, "sh", "-c", script]
    env = {**os.environ, "TZ": "UTC", "FAKETIME": f"@2026-01-01 {_before(minute)}"}
    daemon = subprocess.Popen(words, env=env, preexec_fn=end_with_tests)  # noqa: PLW1509
    try:
        yield
        assert daemon.poll() is None, "cron has ended"
    finally:
        daemon.terminate()
        daemon.wait(STOP_S)


def _faketime() -> Path:
    """Return libfaketime, which gives a process another clock. Skips where it is missing; fails in CI."""
    for library in Path("/usr/lib").glob("*/faketime/libfaketime.so.1"):
        return library
    reason = "libfaketime is not installed: apt-get install libfaketime"
    if IN_CI:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def _before(minute: str) -> str:
    """Return the time LEAD_S before a minute."""
    hour, _, within = minute.partition(":")
    total = int(hour) * 3600 + int(within) * 60 - LEAD_S
    return f"{total // 3600:02}:{total // 60 % 60:02}:{total % 60:02}"
