"""Builds docker/ by a real Docker, runs its README, breaks it, upgrades it, and removes it: ``make containers``."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click

from tests.containers import users
from tests.containers.edge import ContainerEdge
from tests.containers.engine import find_docker, packaged_docker
from tests.containers.stack import ContainerStack, wait_until
from tests.containers.users import Load, expect, loaded
from tests.support.unity import BrokenAnswer

#: A file of graycat's that an upgrade changes.
CHANGED = "graycat/log.py"


def say(text: str) -> None:
    """Print a line at once."""
    click.echo(f"{time.strftime('%H:%M:%S')} {text}")


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long the block took."""
    begin = time.monotonic()
    yield
    say(f"{what}: {time.monotonic() - begin:.1f} s")


def start(stack: ContainerStack) -> None:
    """Run the README's first block: every container is healthy behind it."""
    with timed("build, start, all healthy"):
        stack.shell(stack.first)
    expect(stack.is_ready(), "/ready says 200 once all are healthy")
    expect(not stack.dangling(), "no image without a name is left")
    stack.check_variants()


def first_minutes(stack: ContainerStack) -> None:
    """Run the README's calls, and those of each kind of user."""
    with timed("the calls of the README"):
        said = stack.shell(stack.calls)
        expect("games are served" in said, f"the README's calls answer: {said}")
        stack.shell(stack.trouble)
    steps: dict[str, Callable[[ContainerStack], None]] = {
        "Unity: stream and /tokenize": users.game, "REST: submit and poll": users.rest,
        "batch, schedule": users.night, "operator: status, Flower": users.operator,
    }  # fmt: skip
    for name, step in steps.items():
        with timed(name):
            step(stack)


def break_each(stack: ContainerStack, services: list[str]) -> None:
    """Restart and kill each container in turn."""
    for service in services:
        break_one(stack, service, "restart", lambda name: stack.compose("restart", name))
        break_one(stack, service, "kill", stack.kill)


def break_one(stack: ContainerStack, service: str, way: str, do: Callable[[str], object]) -> None:
    """Break one container; it comes back, and ``/ready`` with it."""
    before = stack.state(service)["StartedAt"]
    do(service)
    wait_until(lambda: stack.state(service)["StartedAt"] != before, f"{service} starts again after {way}")
    ready_s = wait_until(stack.is_ready, f"/ready after {way} {service}")
    healthy_s = wait_until(lambda: stack.is_healthy(service), f"{service} healthy after {way}")
    say(f"{way} {service}: /ready after {ready_s:.1f} s, healthy {healthy_s:.1f} s later")


def upgrade(stack: ContainerStack) -> None:
    """Change graycat and run the README's update."""
    with (stack.source / CHANGED).open("a") as file:
        file.write("\n# Another release.\n")
    with timed("upgrade under load"):
        stack.shell(stack.update)
    expect(stack.is_ready(), "/ready says 200 after the upgrade")
    dangling = stack.dangling()
    expect(not dangling, f"no image without a name is left: {dangling}")


def wait_for_game(stack: ContainerStack) -> None:
    """Stream a completion after the upgrade; a machine that is busy with the load may refuse some before."""

    def answered() -> bool:
        try:
            users.game(stack)
        except (OSError, BrokenAnswer, RuntimeError):
            return False
        return True

    seconds = wait_until(answered, "a game is answered after the upgrade")
    say(f"a game is answered {seconds:.1f} s after the upgrade")


def settle(stack: ContainerStack, load: Load) -> None:
    """Wait for all that was accepted, and for the schedule."""
    with timed("all that was accepted has ended"):
        lost = load.lost()
    expect(len(load.tasks) > 10 and load.streams > 3, f"there was a load: {len(load.tasks)}, {load.streams}")
    expect(not lost, f"nothing is lost: {lost}")
    wait_until(lambda: users.fired(stack), "the schedule has made a batch")
    say(f"{len(load.tasks)} tasks accepted, 0 lost; {load.streams} streams whole; calls to repeat:")
    for reason, times in Counter(load.broken).most_common():
        say(f"  {times} x {reason}")


def through_edge(stack: ContainerStack) -> None:
    """Start docker/edge before the stack, use it, and break it."""
    edge = ContainerEdge(stack)
    with timed("edge: start"):
        edge.start()
    with timed("edge: a game's stream, REST, links"):
        expect(edge.game(), "a game's stream is whole through the edge")
        edge.rest()
    for service in ("edge", "web"):
        break_one(stack, service, "kill", stack.kill)
        wait_until(edge.game, f"a game is answered through the edge after kill {service}")


@click.command()
@click.option("--cache", type=click.Path(path_type=Path), help="Keep unpacked packages here for the next run.")
@click.option("--packages", is_flag=True, help="Use a Docker from packages, also if this machine has one.")
@click.option("--services", default="", help="Break only these, parted by commas.")
def main(cache: Path | None, packages: bool, services: str) -> None:
    """Check docker/ by running it. Exits with 1 if anything is not as its README says."""
    # What it has made is removed, however it ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with ExitStack() as ending, timed("everything"):
        folder = cache
        if folder is None:
            folder = Path(tempfile.mkdtemp(prefix="graycat-containers-"))
            ending.callback(shutil.rmtree, folder, ignore_errors=True)
        folder = folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        docker = None if packages else find_docker()
        if docker is None:
            with timed("a Docker from packages, and the bases"):
                docker = ending.enter_context(packaged_docker(folder, say))
        stack = ContainerStack(docker, folder)
        ending.callback(stack.remove)
        try:
            check(stack, services.split(",") if services else [])
            through_edge(stack)
            with timed("stop"):
                stack.compose("stop", "--timeout", "30")
        except Exception as error:  # noqa: BLE001 (whatever it was, it is told with what the containers say)
            say(f"FAILED: {error}\n{stack.explain()}")
            sys.exit(1)


def check(stack: ContainerStack, services: list[str]) -> None:
    """Run everything. Raises an error that says what is not as it should be."""
    start(stack)
    first_minutes(stack)
    with loaded(stack) as load:
        break_each(stack, services or stack.services())
        upgrade(stack)
        wait_for_game(stack)
    settle(stack, load)


if __name__ == "__main__":
    main()
