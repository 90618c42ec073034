"""The commands of docs/operating.md about backups, as a reader types them, and as cron runs them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.helpers import ROOT, Valkey

SECTION = (ROOT / "docs" / "operating.md").read_text().partition("\n## Backup and restore\n")[2].partition("\n## ")[0]
BLOCKS = dict(re.findall(r"^```(\w*)\n(.*?)^```$", SECTION, re.DOTALL | re.MULTILINE))
COMMANDS = BLOCKS[""].splitlines()
CRONTAB = BLOCKS["crontab"].splitlines()
#: What cron gives its commands (crontab(5)).
CRON_ENV = {"PATH": "/usr/bin:/bin", "SHELL": "/bin/sh", "HOME": "/"}


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Valkey]:
    """Yield the broker of a folder in which graycat is installed as the documents say, with its settings in .env."""
    valkey = Valkey(tmp_path / "srv" / "var")
    (tmp_path / "srv" / ".venv").symlink_to(Path(sys.executable).parents[1])
    (tmp_path / "srv" / ".env").write_text(f"GRAYCAT_HOME={tmp_path}/srv/var\nAPI_TOKENS=tests:{'x' * 40}\n")
    (tmp_path / "backups").mkdir()
    (tmp_path / "srv" / "var" / "token-key").write_text("the key of the tokens")
    valkey.start()
    valkey.client.hset("graycat:tokens", "gc_a", "sealed")
    yield valkey
    valkey.stop()


def cron(line: str, folder: Path) -> str:
    """Run a line of a crontab as cron does; return what it prints. To cron, a % without a \\ is the end of it."""
    command = line.split(None, 5)[5]
    assert not re.search(r"(?<!\\)%", command)
    command = (
        command.replace("\\%", "%")
        .replace("/srv/graycat", f"{folder}/srv")
        .replace("/var/backups/graycat", f"{folder}/backups")
    )
    env = CRON_ENV | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["/bin/sh", "-c", command], cwd="/", env=env, check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.not_covered
def test_the_commands_work_one_after_the_other(machine: Valkey, tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("GRAYCAT_")}
    env |= {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    assert [line.split()[1] for line in COMMANDS] == ["backup", "restore"]
    for command in COMMANDS:
        subprocess.run(["/bin/sh", "-c", command], cwd=tmp_path / "srv", env=env, check=True, timeout=60)
        machine.client.flushall()
        # The keys of the home are there by now: the same ones.
    assert (tmp_path / "srv" / "monday.graycat").is_file()


@pytest.mark.not_covered
def test_cron_makes_a_backup_a_night_and_deletes_old_ones(machine: Valkey, tmp_path: Path) -> None:
    nightly, clean_up = CRONTAB
    assert "1 API tokens" in cron(nightly, tmp_path)
    (made,) = (tmp_path / "backups").iterdir()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d\.graycat", made.name)
    for age_days, name in ((13, "young.graycat"), (16, "old.graycat"), (16, "another's")):
        path = tmp_path / "backups" / name
        path.touch()
        then = path.stat().st_mtime - age_days * 86400
        os.utime(path, (then, then))
    assert cron(clean_up, tmp_path) == ""
    assert {path.name for path in (tmp_path / "backups").iterdir()} == {made.name, "young.graycat", "another's"}
