"""``python -m chaos day``: a day in simulated time for schedules and batches, with kills.

Every process, the broker too, has the clock that libfaketime gives it; it jumps from one due time to the next. So a day
takes minutes, and each jump is also what a machine sees that was suspended. It ends with status 1 if a due time was not
submitted exactly once (or by the rule for missed times), or if an image of a batch is lost or was made twice.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from chaos import report
from chaos.console import say
from chaos.day_clock import DayClock, library
from chaos.day_times import Plan, key_time, show
from chaos.results import read_commit
from chaos.system import wait_for
from graycat.broker.keys import BATCHES, LIVE_BATCHES, PREFIX
from tests.support.images import ANNA as OWNER
from tests.support.images import ImageStack
from tests.support.processes import eventually
from tests.support.stack import START_S

#: Two half days: clocks in Berlin are put forward in the first, and put back in the second.
SPANS = ("2027-03-27T18:00:00+00:00", "2027-10-30T18:00:00+00:00")
HOURS = 12
#: Seconds behind a due time at which the clock stops.
BEHIND_S = 2
#: Real seconds that a due time gets to be fired, and a batch to end.
FIRE_S, BATCH_S = 40.0, 60.0
#: Of so many stops, one in this many has a fault; the most stops that an outage lasts.
FAULT_EVERY, MOST_STOPS = 3, 4
COMMANDS = ("broker", "web", "control", "sd", "beat")


def new_plans() -> list[Plan]:
    """Return the schedules of the day."""
    return [
        Plan("half-hourly", "*/30 * * * *", "UTC", "all", images=2),
        Plan("hourly", "0 * * * *", "Europe/Berlin", "once"),
        Plan("skipping", "0 * * * *", "America/New_York", "skip"),
        Plan("nightly", "30 2 * * *", "Europe/Berlin", "all", images=5),
        Plan("wall", "*/20 2 * * *", "Europe/Berlin", "all"),
        Plan("howe", "0 * * * *", "Australia/Lord_Howe", "once"),
        Plan("jittery", "45 * * * *", "Asia/Kathmandu", "all", jitter_s=120),
    ]


class DayStack(ImageStack):
    """Separate processes with one clock, which the harness sets; two beats."""

    def __init__(self, home: Path, faketime: Path) -> None:
        env = {"GRAYCAT_SCHEDULE_TICK_S": "0.5", "GRAYCAT_BATCH_MAX_LIVE": "10000", "GRAYCAT_LEASE_S": "3"}
        super().__init__(home, separately=True, env=env, step_s=0.005)
        self.commands = {name: self.commands[name] for name in COMMANDS}
        self.commands["beat2"] = self.commands["beat"]
        self.clock = DayClock(home, faketime)
        self.prefix = self.clock.prefix

    def launch_missing(self) -> None:
        """Start each process that has ended."""
        self.restart_dead()


class Day:
    """One span of simulated time."""

    def __init__(self, stack: DayStack, plans: list[Plan], chance: random.Random) -> None:
        self._stack = stack
        self._plans = plans
        self._chance = chance
        self.faults: Counter[str] = Counter()
        self.wrong: list[str] = []
        #: Stops until what is dead is started again; 0: nothing that fires is dead.
        self._outage = 0
        self._earlier: set[str] = set()

    def run(self, begin: int, hours: float) -> None:
        """Go through the span from one due time to the next, and check all batches at its end."""
        stack, end = self._stack, begin + int(hours * 3600)
        stack.clock.set(begin)
        self._earlier = set(stack.redis().zrange(BATCHES, 0, -1))
        eventually(stack.ready, START_S)
        for plan in self._plans:
            plan.begin(stack.clock.now(), end)
            answer = stack.client().request("PUT", f"/schedules/{plan.name}", json=plan.document())
            assert answer.ok, answer.text  # noqa: S101 (the harness' own request)
        stops = sorted({plan.due_at(time_) + BEHIND_S for plan in self._plans for time_ in plan.pending})
        for stop in stops:
            self._stop_at(stop, is_last=stop == stops[-1])
        self._check()
        for plan in self._plans:
            stack.client().request("DELETE", f"/schedules/{plan.name}")

    def _stop_at(self, stop: int, *, is_last: bool) -> None:
        """Let the clock jump to a due time; what is due must be fired, unless nobody is there to do so."""
        fault = self._choose_fault() if not self._outage else None
        if fault is not None and fault in BEFORE:
            self._do(fault)
        self._stack.clock.set(stop)
        if fault is not None and fault not in BEFORE:
            self._do(fault)
        if self._outage:
            self._outage -= 1
            if self._outage and not is_last:
                return
            self._outage = 0
            self._stack.launch_missing()
        if not wait_for(self._are_fired, FIRE_S, 0.03):
            self.wrong.append(f"{show(stop)}: not fired within {FIRE_S:g} s: {self._list_unfired()}")
        for plan in self._plans:
            plan.serve(stop)
        self._stack.launch_missing()
        if not wait_for(self._is_quiet, BATCH_S, 0.03):
            self.wrong.append(f"{show(stop)}: batches do not end within {BATCH_S:g} s")

    def _choose_fault(self) -> Callable[[Day], None] | None:
        if self._chance.randrange(FAULT_EVERY):
            return None
        return self._chance.choice(FAULTS)

    def _do(self, fault: Callable[[Day], None]) -> None:
        self.faults[(fault.__doc__ or "").strip(". ")] += 1
        fault(self)

    def _list_unfired(self) -> list[str]:
        """Return the schedules of which something is due that nobody has looked at, or that waits."""
        found = []
        with self._stack.redis().pipeline() as pipe:
            for plan in self._plans:
                key = f"{PREFIX}schedule:{OWNER}:{plan.name}"
                pipe.hget(key, "mark")
                pipe.exists(f"{key}:waiting")
            replies = iter(pipe.execute())
        for plan in self._plans:
            mark, waiting = int(next(replies) or 0), next(replies)
            if waiting or mark < plan.newest_due(self._stack.clock.now() - BEHIND_S):
                found.append(plan.name)
        return found

    def _are_fired(self) -> bool:
        return not self._list_unfired()

    def _is_quiet(self) -> bool:
        return not self._stack.redis().zcard(LIVE_BATCHES)

    def new_batches(self) -> list[str]:
        """Return the ids of the batches of this span."""
        return [batch for batch in self._stack.redis().zrange(BATCHES, 0, -1) if batch not in self._earlier]

    # What goes wrong.

    def end_for_a_while(self, *names: str) -> None:
        """Kill processes; they are started again some stops later."""
        for name in names:
            self._stack.kill(name)
        self._outage = self._chance.randint(1, MOST_STOPS)

    def kill_when(self, name: str, is_time: Callable[[], object]) -> None:
        """Kill a process at a moment; it is started again when all that is due was fired, or at once if it fires."""
        wait_for(is_time, 5.0, 0.005)
        self._stack.kill(name)
        if name in ("control", "broker"):
            self._stack.launch_missing()

    @property
    def stack(self) -> DayStack:
        """Return what the day is simulated on."""
        return self._stack

    # The verdict.

    def _check(self) -> None:
        """Compare all batches of the span with the plans, and with what the engine was asked for."""
        rows = {batch: self._stack.redis().hgetall(f"{PREFIX}batch:{batch}") for batch in self.new_batches()}
        attempts: Counter[str] = Counter()
        for plan in self._plans:
            own = [batch for batch, row in rows.items() if row["key"].startswith(f"schedule/{plan.name}/")]
            found = Counter(key_time(rows[batch]["key"]) for batch in own)
            self._compare(plan, found)
            for batch in own:
                attempts += self._check_batch(plan, batch)
        asked = Counter(self._stack.asked())
        for prompt, most in attempts.items():
            if asked[prompt] - self.asked_before.get(prompt, 0) > most:
                self.wrong.append(f"{prompt!r} was made {asked[prompt]} times in {most} attempts")
        self.asked_before = dict(asked)

    asked_before: Mapping[str, int] = {}

    def _compare(self, plan: Plan, found: Counter[int]) -> None:
        expected = set(plan.fired)
        lost, extra = expected - found.keys(), found.keys() - expected
        twice = {at for at, number in found.items() if number > 1}
        for what, times in (("never fired", lost), ("not to be fired", extra), ("twice", twice)):
            if times:
                self.wrong.append(f"{plan.name}: {what}: {', '.join(map(show, sorted(times)))}")
        say(f"  {plan.name:12} {plan.cron:14} {plan.timezone:20} {plan.missed:5} {sum(found.values()):4} batches")

    def _check_batch(self, plan: Plan, batch: str) -> Counter[str]:
        """Check that a batch has each of its images once; return the attempts by prompt."""
        view: dict[str, Any] = self._stack.client().get(f"/batches/{batch}").json()
        if view.get("state") != "succeeded":
            self.wrong.append(f"{plan.name}: the batch {batch} is {view.get('state')}")
            return Counter()
        folder = self._stack.home / "batches" / view["folder"]
        lines = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
        prompts = [line["prompt"] for line in lines]
        if sorted(prompts) != sorted(plan.document()["spec"]["items"]) or len(list(folder.glob("*.png"))) != len(lines):
            self.wrong.append(f"{plan.name}: the batch {batch} has the images {prompts}")
        return Counter({line["prompt"]: line["attempts"] for line in lines})


def kill_a_beat(day: Day) -> None:
    """one beat of two killed"""
    day.stack.kill("beat")


def kill_beats(day: Day) -> None:
    """both beats dead for some due times"""
    day.end_for_a_while("beat", "beat2")


def kill_control(day: Day) -> None:
    """control worker dead for some due times"""
    day.end_for_a_while("control")


def kill_control_while_it_fires(day: Day) -> None:
    """control worker killed while it fires"""
    before = len(day.new_batches())
    day.kill_when("control", lambda: len(day.new_batches()) > before)


def kill_sd_while_it_renders(day: Day) -> None:
    """image worker killed while it renders"""
    day.kill_when("sd", lambda: day.stack.redis().zcard(f"{PREFIX}live.sd"))


def kill_broker(day: Day) -> None:
    """broker killed while things are fired"""
    before = len(day.new_batches())
    wait_for(lambda: len(day.new_batches()) > before, 5.0, 0.005)
    day.stack.kill("broker")
    eventually(lambda: day.stack.server_pid() is None, START_S)
    day.stack.launch_missing()


FAULTS = (
    kill_a_beat, kill_beats, kill_control, kill_control_while_it_fires, kill_sd_while_it_renders, kill_broker,
)  # fmt: skip
#: Faults that are there before the clock jumps.
BEFORE = (kill_a_beat, kill_beats, kill_control)


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate the day, and return the exit status."""
    parser = argparse.ArgumentParser(prog="chaos day", description=__doc__)
    parser.add_argument("--hours", type=float, default=HOURS, help="of each of the two spans")
    parser.add_argument("--seed", type=int, default=17)
    parser.add_argument("--write", action="store_true", help="write what was found into docs/reliability.md")
    options = parser.parse_args(arguments)
    commit = read_commit()
    faketime = library()
    if faketime is None:
        say("skipped: libfaketime is not installed (Debian: apt-get install libfaketime)")
        return 0
    chance = random.Random(options.seed)  # noqa: S311 (the same faults each time)
    wrong: list[str] = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="chaos-day-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        stack = DayStack(home, faketime)
        try:
            stack.clock.set(int(datetime.fromisoformat(SPANS[0]).timestamp()))
            stack.start()
            asked: Mapping[str, int] = {}
            for span in SPANS:
                say(f"{options.hours:g} hours from {span}")
                day = Day(stack, new_plans(), chance)
                day.asked_before = asked
                day.run(int(datetime.fromisoformat(span).timestamp()), options.hours)
                asked = day.asked_before
                wrong += day.wrong
                say(f"  faults: {dict(day.faults)}")
            stack.stop()
        finally:
            stack.kill_all()
    for text in wrong:
        say(f"WRONG: {text}")
    verdict = "each due time was submitted once, and no image is lost or made twice"
    if wrong:
        verdict = f"{len(wrong)} things are wrong"
    say(f"{verdict}; {time.monotonic() - began:.0f} s")
    if options.write:
        report.write_row("make chaos ARGS=day", f"{options.hours * len(SPANS):g} simulated hours", verdict, commit)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
