"""Starts real image engines behind graycat and judges their answers: ``make image-engines``."""

from __future__ import annotations

import base64
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from graycat.images.made import read_made
from tests.image_engines import hostile, rerun, sdserver
from tests.support.stack import Client, Stack, running

QUICK, RENDER_S = hostile.QUICK, hostile.RENDER_S
TXT2IMG = hostile.TXT2IMG
CHECKS = ("seeds", "names", "hostile", "batch")
#: Seconds that graycat and the engine get to start: the engine reads its weights first.
START_S = 300.0


def say(text: str) -> None:
    """Print a line at once."""
    click.echo(f"{time.strftime('%H:%M:%S')} {text}")


def check_batch(client: Client, stack: Stack, count: int) -> list[str]:
    """Return the lines of a batch's manifest that cannot be made again."""
    begin = time.monotonic()
    lines = rerun.run_batch(client, stack.home, count)
    say(f"batch of {len(lines)}: {time.monotonic() - begin:.0f} s, {len({line['sha256'] for line in lines})} pictures")
    unlike = rerun.make_again(client, lines)
    say(f"made again byte by byte: {len(lines) - len(unlike)} of {len(lines)}")
    return unlike


def check_seeds(client: Client, _: Stack) -> list[str]:
    """Return what is wrong with the seeds of single renders."""
    problems = []
    for seed in (7, 2**31 - 1, 2**31, 2**32 - 1, 2**40 + 5):
        first, second = (client.post(TXT2IMG, QUICK | {"seed": seed}, timeout=RENDER_S).json() for _ in range(2))
        made = read_made(base64.b64decode(first["images"][0])).seed
        warned = [warning["field"] for warning in first.get("warnings", [])]
        say(f"seed {seed}: made with {made}, warned of {warned}, again the same: {first['images'] == second['images']}")
        if first["images"] != second["images"] or (made != seed) != ("seed" in warned):
            problems.append(f"seed {seed}")
    drawn = {client.post(TXT2IMG, QUICK | {"seed": -1}, timeout=RENDER_S).json()["images"][0] for _ in range(4)}
    if len(drawn) < 4:
        problems.append("two requests without a seed made one picture")
    return problems


def check_names(client: Client, _: Stack) -> list[str]:
    """Return what is wrong with samplers: an unknown one is refused, known ones make pictures of their own."""
    problems = []
    pictures: dict[str, Any] = {}
    for name in ("Euler a", "Heun", "DPM++ 2M Karras", "LCM"):
        answer = client.post(TXT2IMG, QUICK | {"steps": 3, "sampler_name": name}, timeout=RENDER_S)
        pictures[name] = answer.json().get("images")
        if answer.status_code != 200 or "warnings" in answer.json():
            problems.append(f"{name}: {answer.status_code} {answer.json().get('warnings')}")
    if len({str(images) for images in pictures.values()}) < len(pictures):
        problems.append("two samplers made one picture")
    for name in ("Eular", "DPM++ 2M Carras", "PLMS"):
        answer = client.post(TXT2IMG, QUICK | {"sampler_name": name}, timeout=RENDER_S)
        say(f"sampler {name}: {answer.status_code} {answer.json().get('detail', '')[:90]}")
        if answer.status_code != 400:
            problems.append(f"{name}: {answer.status_code}")
    steps = client.post(TXT2IMG, QUICK | {"steps": 120}, timeout=RENDER_S).json().get("warnings", [])
    say(f"120 steps: {steps}")
    return problems


def check_hostile(client: Client, _: Stack) -> list[str]:
    """Return each hostile value that was a 5xx."""
    problems = []
    for name, table in hostile.TABLES.items():
        statuses, failed = hostile.send_all(client, table)
        size = f"{len(table.fields)} fields x {len(hostile.VALUES)}"
        say(f"hostile values, {name}: {size}: {dict(sorted(statuses.items()))}")
        problems += failed
    return problems


@click.command()
@click.option("--cache", type=click.Path(path_type=Path), help="A folder that keeps what was built.")
@click.option("--count", default=60, help="Images of the batch, a multiple of six.")
@click.option("--only", type=click.Choice(CHECKS), multiple=True, help="Checks to make. Default: all.")
def main(cache: Path | None, count: int, only: tuple[str, ...]) -> None:
    """Build and start sd-server, and judge it behind graycat."""
    with tempfile.TemporaryDirectory() as folder:
        kept = (cache or Path(folder)).absolute()
        kept.mkdir(parents=True, exist_ok=True)
        command = sdserver.start_command(sdserver.build(kept), kept)
        env = {"RUN_LLM": "false", "RUN_SD": "true", "SD_STARTUP_COMMAND": command}
        checks: dict[str, Callable[[Client, Stack], list[str]]] = {
            "seeds": check_seeds,
            "names": check_names,
            "hostile": check_hostile,
            "batch": lambda client, stack: check_batch(client, stack, count),
        }
        problems: list[str] = []
        stack = Stack(Path(folder) / "home", env=env)
        stack.start_s = START_S
        with running(stack):
            client = stack.client()
            for name in only or CHECKS:
                problems += checks[name](client, stack)
    for problem in problems:
        say(f"WRONG: {problem}")
    if problems:
        sys.exit(1)
    say("all is well")


if __name__ == "__main__":
    main()
