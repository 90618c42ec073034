"""``graycat schedule``, on the web application behind a real socket."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner, Result

from graycat.cli import cli
from graycat.cli.server import EXIT_REFUSED, EXIT_UNREACHABLE
from graycat.schedules import file
from graycat.schedules.runner import ScheduleRunner
from graycat.settings import Settings
from tests.support.helpers import ROOT, SECRET, free_port

DOCS = (ROOT / "docs" / "schedules.md").read_text()
Graycat = Callable[..., Result]
SPEC = 'name = "portraits"\n[[items]]\nprompt = "a tavern"\n'


@pytest.fixture
def graycat(live, monkeypatch, tmp_path: Path) -> Graycat:
    """Return how to run ``graycat schedule``, with the settings of the live server's machine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PORT", str(urlsplit(live.url).port))
    monkeypatch.setenv("API_TOKENS", f"tests:{SECRET}")
    Path("portraits.toml").write_text(SPEC)

    def invoke(*words: str, patience_s: float = 5.0) -> Result:
        options = [] if "--help" in words else [f"--patience={patience_s}"]
        result = CliRunner().invoke(cli, ["schedule", *words, *options], catch_exceptions=False)
        assert SECRET not in result.output
        return result

    return invoke


def test_a_schedule_is_added_and_shows_its_next_times(graycat: Graycat) -> None:
    added = graycat("add", "nightly", "0 1 * * *", "--spec", "portraits.toml", "--timezone", "Asia/Kolkata")
    assert (added.exit_code, added.stderr) == (0, "")
    assert added.stdout.startswith("nightly: next 20")
    assert added.stdout.endswith("T01:00:00+05:30\n")
    times = graycat("next", "nightly", "-n", "3").stdout.splitlines()
    assert len(times) == 3
    assert all(time.endswith("T01:00:00+05:30") for time in times)


def test_every_field_of_a_schedule_has_an_option(graycat: Graycat) -> None:
    options = ("--missed", "all", "--overlap", "queue", "--jitter", "90", "--window", "01:00-06:00", "--max-gpus", "2")
    shown = json.loads(graycat("add", "nightly", "@daily", "--spec", "portraits.toml", *options, "--json").stdout)
    assert (shown["missed"], shown["overlap"], shown["jitter_s"]) == ("all", "queue", 90)
    assert (shown["window"], shown["max_gpus"], shown["spec"]["name"]) == ("01:00-06:00", 2, "portraits")
    assert "(starts 20" in graycat("next", "nightly").stdout
    lines = graycat("show", "nightly").stdout
    assert "overlap:   queue\n" in lines
    assert "window:    01:00-06:00\n" in lines


def test_the_list_is_a_table_and_in_json_a_line_each(graycat: Graycat) -> None:
    assert graycat("list").stdout == "NAME  CRON  ZONE  NEXT  STATE  SOURCE\n"
    for name in ("b", "a"):
        graycat("add", name, "0 1 * * *", "--spec", "portraits.toml")
    graycat("pause", "b")
    header, first, second = graycat("list").stdout.splitlines()
    assert header.split() == ["NAME", "CRON", "ZONE", "NEXT", "STATE", "SOURCE"]
    assert first.split()[0] == "a"
    assert first.split()[-2:] == ["on", "api"]
    assert second.split()[-3:] == ["-", "paused", "api"]
    assert [json.loads(line)["name"] for line in graycat("list", "--json").stdout.splitlines()] == ["a", "b"]


def test_a_schedule_is_paused_resumed_run_and_removed(graycat: Graycat) -> None:
    graycat("add", "nightly", "0 1 * * *", "--spec", "portraits.toml")
    assert graycat("pause", "nightly").stdout == "nightly: paused\n"
    assert graycat("resume", "nightly").stdout.startswith("nightly: next 20")
    batch = graycat("run-now", "nightly", "--key", "k").stdout.strip()
    assert len(batch) == 16
    assert graycat("run-now", "nightly", "--key", "k").stdout.strip() == batch
    assert graycat("remove", "nightly").stdout == "nightly: removed\n"
    gone = graycat("show", "nightly")
    assert (gone.exit_code, gone.stdout) == (EXIT_REFUSED, "")
    assert "schedule_not_found" in gone.stderr


def test_the_outcomes_of_the_last_times_are_shown(graycat: Graycat, broker) -> None:
    graycat("add", "hourly", "0 * * * *", "--spec", "portraits.toml")
    broker.client.hset("graycat:schedule:tests:hourly", "mark", 1_800_000_000)
    ScheduleRunner(broker.client, broker.settings).step(1_800_000_000 + 3 * 3600)
    missed, fired = graycat("show", "hourly").stdout.splitlines()[-1:-3:-1]
    assert missed == "2027-01-15T09:00:00Z missed"
    assert fired.startswith("2027-01-15T11:00:00Z fired ")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("add", "n", "0 25 * * *", "--spec", "portraits.toml"), EXIT_REFUSED, "bad hour"),
        (("add", "n", "* * * * *", "--spec", "portraits.toml", "--timezone", "Nowhere"), EXIT_REFUSED, "no time zone"),
        (("add", "n", "* * * * *", "--spec", "nothing.toml"), 2, "nothing.toml"),
        (("add", "n", "* * * * *", "--spec", "portraits.txt"), 2, "must end in .toml"),
        (("add", "n", "* * * * *"), 2, "--spec"),
        (("add", "a/b", "* * * * *", "--spec", "portraits.toml"), EXIT_REFUSED, "'name'"),
        (("pause", "a/b"), 2, "a schedule's name"),
        (("pause", "nobody"), EXIT_REFUSED, "schedule_not_found"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(graycat: Graycat, words, code, message) -> None:
    result = graycat(*words)
    assert (result.exit_code, result.stdout) == (code, "")
    assert message in result.stderr


def test_an_invalid_spec_is_a_usage_error(graycat: Graycat) -> None:
    Path("broken.toml").write_text("name = \n")
    result = graycat("add", "n", "* * * * *", "--spec", "broken.toml")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "the spec is not valid TOML" in result.stderr


def test_items_may_be_in_a_file_of_the_same_folder(graycat: Graycat) -> None:
    Path("listed.yaml").write_text("name: listed\nitems: heroes.txt\n")
    Path("heroes.txt").write_text("a knight\na thief\n")
    shown = json.loads(graycat("add", "listed", "@daily", "--spec", "listed.yaml", "--json").stdout)
    assert shown["spec"]["items"] == ["a knight", "a thief"]


def test_the_commands_of_the_docs_work(graycat: Graycat) -> None:
    (block,) = re.findall(r"^```\n(graycat schedule add.*?)^```$", DOCS, re.DOTALL | re.MULTILINE)
    for line in block.splitlines():
        assert graycat(*shlex.split(line)[2:]).exit_code == 0, line


def test_the_file_of_the_docs_can_be_read(tmp_path: Path, graycat: Graycat) -> None:
    (text,) = re.findall(r"^```toml\n(.*?)^```$", DOCS, re.DOTALL | re.MULTILINE)
    (tmp_path / "schedules.toml").write_text(text)
    (schedule,) = file.load(Settings(schedules_file=tmp_path / "schedules.toml"))
    assert (schedule.owner, schedule.spec["name"]) == ("art", "portraits")


def test_an_unreachable_server_is_exit_code_3(graycat: Graycat, monkeypatch) -> None:
    monkeypatch.setenv("PORT", str(free_port()))
    assert graycat("list", patience_s=0).exit_code == EXIT_UNREACHABLE
