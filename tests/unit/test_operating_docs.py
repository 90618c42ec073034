"""What docs/operating.md and docs/boxes.md tell operators exists: commands, settings, units, codes, headings."""

from __future__ import annotations

import re
import shlex
from dataclasses import fields
from pathlib import Path

import click
import pytest

from graycat.cli import cli
from graycat.cli.up import list_processes
from graycat.settings import Settings
from graycat.settings.rules import variable_of
from graycat.supervision.specs import PROCESSES

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGE = (DOCS / "operating.md").read_text()
#: Celery's commands and backups have tests of their own.
OURS = re.sub(r"\n## Backup and restore\n.*?(?=\n## )", "", PAGE.partition("\n## Memory\n")[2], flags=re.DOTALL)
RENTED = (DOCS / "boxes.md").read_text().partition("\n## Rented by the hour")[2].partition("\n## ")[0]
BLOCK_LINES = [
    line for block in re.findall(r"^```\n(.*?)^```$", OURS, re.DOTALL | re.MULTILINE) for line in block.splitlines()
]
SPANS = re.findall(r"`([^`\n]+)`", OURS)
LINES = sorted({line for line in BLOCK_LINES if line.startswith("graycat ")})
NAMED = sorted({span for span in SPANS if span.startswith("graycat ")})
SETTINGS = {variable_of(field) for field in fields(Settings)}
TEMPLATE = dict(
    line.split("=", 1) for line in re.findall(r"^```env\n(.*?)^```$", RENTED, re.DOTALL | re.MULTILINE)[0].splitlines()
)
pytestmark = pytest.mark.not_covered


def parse(command: click.Command, words: list[str]) -> None:
    """Parse a command line as the program does, and run nothing. Raises click.UsageError."""
    if not isinstance(command, click.Group):
        command.make_context("graycat", list(words))
    elif words:
        found = command.get_command(click.Context(command), words[0])
        if found is None:
            raise click.UsageError(f"there is no {words[0]}")
        parse(found, words[1:])


@pytest.mark.parametrize("line", LINES)
def test_a_command_in_a_block_can_be_typed(line: str) -> None:
    parse(cli, shlex.split(line)[1:])


@pytest.mark.parametrize("span", NAMED)
def test_a_command_in_a_sentence_is_one(span: str) -> None:
    try:
        parse(cli, shlex.split(span)[1:])
    except click.MissingParameter:
        # It is named without what it is used on.
        return


def test_a_command_that_is_none_is_found() -> None:
    assert LINES
    assert NAMED
    for line in ("graycat nothing", "graycat worker drain llm@box7 --limits 3", "graycat queue drop sd"):
        with pytest.raises(click.UsageError):
            parse(cli, shlex.split(line)[1:])


def test_each_setting_is_one() -> None:
    named = set(re.findall(r"\b(GRAYCAT_[A-Z_]+|REDIS_[A-Z]+|GPU_LAYERS|LLAMA_SERVER_URL)\b", OURS + RENTED))
    assert named - SETTINGS == set()


def test_each_make_target_and_each_unit_is_one() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"make ([a-z-]+) ?[A-Z]*", "\n".join([*SPANS, *BLOCK_LINES]))) <= targets
    units = {f"graycat-{spec.name}" for spec in PROCESSES}
    assert set(re.findall(r"systemctl restart ([a-z-]+)", OURS)) <= units


def test_each_code_is_one_and_has_that_status() -> None:
    table = OURS.partition("\n## What you see")[2]
    named = set(re.findall(r"\b([1-5]\d\d) `([a-z_]+)`", table))
    known = set(re.findall(r"^\| (\d{3}) \| `([a-z_]+)`", (DOCS / "errors.md").read_text(), re.MULTILINE))
    assert len(named) >= 15
    assert named - known == set()


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)]+)\)", OURS + RENTED))))
def test_each_link_leads_somewhere(link: str) -> None:
    name, _, heading = link.partition("#")
    page = DOCS / name if name else DOCS / "operating.md"
    assert page.exists()
    if heading:
        headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
        assert heading in {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in headings}


def test_a_rented_box_runs_a_text_worker_by_these_settings() -> None:
    assert set(TEMPLATE) <= SETTINGS
    # Without its GPUs, which are not here.
    settings = Settings.from_env(TEMPLATE | {"LLM_GPUS": ""})
    assert set(list_processes(settings).values()) == {"graycat worker llm", "graycat worker quick"}
    # The start command is handed to the image's entry point.
    dockerfile = (ROOT / "docker" / "Dockerfile.gpu").read_text()
    assert 'ENTRYPOINT ["graycat"]' in dockerfile
    assert f"GRAYCAT_HOME={TEMPLATE['GRAYCAT_HOME']}" in dockerfile
    assert re.findall(r"(?:Container Start Command|Entrypoint Arguments): `([^`]+)`", RENTED) == ["up", "up"]
