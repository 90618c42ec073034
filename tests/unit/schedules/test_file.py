from __future__ import annotations

from pathlib import Path

import pytest

from graycat.errors import SettingsError
from graycat.schedules import file
from graycat.schedules.records import ScheduleRecords
from graycat.settings import Settings
from tests.support.helpers import Valkey, changed

NIGHTLY = """
[[schedule]]
name = "nightly"
cron = "0 1 * * *"
timezone = "Europe/Berlin"
window = "01:00-06:00"
[schedule.spec]
name = "portraits"
items = [{ prompt = "a tavern" }]
"""
OTHER = """
[[schedule]]
name = "other"
owner = "art"
cron = "@daily"
spec_file = "walls.yaml"
"""
WALLS = "name: walls\nitems:\n  - prompt: a wall\n"


@pytest.fixture
def of(tmp_path: Path, broker: Valkey):
    """Return how to write the file; its settings."""

    def write(text: str | None) -> Settings:
        path = tmp_path / "schedules.toml"
        (tmp_path / "walls.yaml").write_text(WALLS)
        if text is None:
            path.unlink(missing_ok=True)
        else:
            path.write_text(text)
        return changed(broker.settings, schedules_file=path)

    return write


def test_without_a_file_there_are_none(of) -> None:
    assert file.load(of(None)) == []


def test_a_schedule_belongs_to_the_first_api_token_or_to_the_one_it_names(of) -> None:
    nightly, other = file.load(of(NIGHTLY + OTHER))
    assert (nightly.owner, nightly.name, nightly.timezone, nightly.window) == (
        "tests",
        "nightly",
        "Europe/Berlin",
        "01:00-06:00",
    )
    assert (other.owner, other.spec) == ("art", {"name": "walls", "items": [{"prompt": "a wall"}]})


def test_without_configured_api_tokens_it_belongs_to_the_one_that_graycat_makes(of, tmp_path: Path) -> None:
    settings = changed(of(NIGHTLY), api_tokens="")
    assert [schedule.owner for schedule in file.load(settings)] == ["default"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[schedule]\n", "schedules.toml: "),
        ("schedule = 5", "must hold \\[\\[schedule\\]\\] tables"),
        ("schedule = [5]", "schedule 1: must be a table"),
        ("[[schedules]]\n", "must hold"),
        (NIGHTLY.replace("0 1 *", "0 25 *"), "schedule 1: 'cron': '0 25 \\* \\* \\*': bad hour"),
        (OTHER + NIGHTLY.replace("Berlin", "Berln"), "schedule 2: 'timezone'"),
        (NIGHTLY.replace("prompt", "promt"), "schedule 1: spec.items"),
        (NIGHTLY + "day = 2027-01-01\n", "schedule 1: spec: a date cannot be in a spec"),
        (NIGHTLY + NIGHTLY, "schedule 2: 'tests' has another schedule 'nightly'"),
        (OTHER.replace("art", "a:b"), "'owner'"),
        (OTHER.replace("walls.yaml", "walls.csv"), "must end in .toml"),
        (OTHER.replace("walls.yaml", "doors.yaml"), "'spec_file': .*doors.yaml"),
        (OTHER + "[schedule.spec]\n", "cannot be combined with 'spec'"),
    ],
)
def test_a_mistake_in_the_file_is_one_line(of, text, words) -> None:
    with pytest.raises(SettingsError, match=words) as caught:
        file.load(of(text))
    assert "\n" not in str(caught.value)


def test_schedules_come_and_go_with_the_file(of, schedules: ScheduleRecords, add) -> None:
    add(name="by-rest")
    file.sync(schedules, file.load(of(NIGHTLY + OTHER)))
    assert [(v["name"], v["source"]) for v in schedules.list()] == [
        ("other", "file"),
        ("by-rest", "api"),
        ("nightly", "file"),
    ]
    file.sync(schedules, file.load(of(NIGHTLY.replace("0 1 ", "0 2 "))))
    assert [(v["name"], v["cron"]) for v in schedules.list()] == [("by-rest", "0 1 * * *"), ("nightly", "0 2 * * *")]
    file.sync(schedules, file.load(of(None)))
    assert [v["name"] for v in schedules.list()] == ["by-rest"]


def test_a_start_with_the_same_file_changes_nothing(of, schedules: ScheduleRecords, broker: Valkey) -> None:
    file.sync(schedules, file.load(of(NIGHTLY)))
    broker.client.hset("graycat:schedule:tests:nightly", "mark", 5)
    file.sync(schedules, file.load(of(NIGHTLY)))
    assert schedules.load_states()[0].handled_until == 5


def test_a_schedule_of_rest_stays_if_the_file_has_the_same_name(of, schedules: ScheduleRecords, add) -> None:
    add(jitter_s=7)
    file.sync(schedules, file.load(of(NIGHTLY)))
    assert [(v["source"], v["jitter_s"]) for v in schedules.list()] == [("api", 7)]
