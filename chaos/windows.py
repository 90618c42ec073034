"""Windows: a process dies between two commands of a task, at every step there is, and is started again at once.

A recording finds the steps of each kind of work in each process. Then each step is a window: the process dies before
it, or behind it, while the work of one caller passes there. What is tried at the same time dies in other processes.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from chaos.hook.traps import AFTER, BEFORE, STOPPED
from chaos.window_checks import Checks
from chaos.window_stack import PROCESSES, WindowStack
from chaos.work import (
    ENDED,
    PATIENCE_S,
    Cancelled,
    Crowd,
    Image,
    LongText,
    NeverEnds,
    Overdue,
    Overrun,
    Quick,
    Retried,
    Stream,
    Text,
    Work,
)
from chaos.work_batches import Batch, Schedule

#: The kinds of work whose steps are windows; two more are for single windows.
KINDS: tuple[type[Work], ...] = (Text, Stream, Quick, Image, Cancelled, Retried, Batch, Schedule)
#: Work of which no windows are recorded.
ODD_KINDS: tuple[type[Work], ...] = (LongText, Crowd, Overrun, Overdue)
BY_KIND: dict[str, type[Work]] = {work.kind: work for work in (*KINDS, *ODD_KINDS)}
#: Seconds until all that is left of ended work is gone: leases, sweeps, and what looks once a second.
CLEAN_S, LOOK_S = 20.0, 0.1
#: Seconds that a recording waits for the steps behind the end of the work.
BEHIND_S = 2.0
#: Steps of transport are the same for all work; of all others each kind of work has its own.
TRANSPORT = ("BRPOP", "ZADD unacked", "ZREM unacked", "webhook", "usage.count", "ZREM graycat:changed")
#: Steps that are taken by the clock: there is one for sure only in work that takes longer.
TIMED, LONG = ("queue.renew", "ZADD unacked_index:llm"), "long text"
#: Of a step that is taken again and again, these are tried, and the last one of work that comes to its end.
NUMBERS, WHOLE = (1, 2), ("text", "stream", "image", "batch", "schedule")


@dataclass(frozen=True, slots=True)
class Window:
    """Where a process dies."""

    process: str
    work: str
    step: str
    number: int
    side: str

    def __str__(self) -> str:
        return f"{self.process}, {self.work}: {self.side} {self.step} #{self.number}"

    @property
    def loses_a_message(self) -> bool:
        """Return whether the broker has given the message away and nobody has noted that: a sweep must find it."""
        return self.step.startswith("BRPOP") or (self.step.startswith("ZADD unacked") and "HSET" in self.step)


@dataclass(slots=True)
class Trial:
    """What came of a window. ``seconds``: until its caller had what it wanted."""

    window: Window
    sprung: bool = False
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)


class Runner:
    """Tries windows on one stack. Callers wait ``patience_s``; nothing is left ``clean_s`` after their work."""

    def __init__(
        self, stack: WindowStack, checks: Checks, *, patience_s: float = PATIENCE_S, clean_s: float = CLEAN_S
    ) -> None:
        self.stack = stack
        self.checks = checks
        self._patience_s = patience_s
        self._clean_s = clean_s
        self._count = 0
        self.works: list[Work] = []

    def new_work(self, kind: str) -> Work:
        """Return new work of a kind."""
        self._count += 1
        name = f"w{self._count:03d}-{kind.replace(' ', '-')}"
        work = BY_KIND[kind](self.stack, name, self.checks.receiver.url, self._patience_s)
        self.works.append(work)
        return work

    def record(self, kinds: Iterable[str]) -> list[Window]:
        """Return the windows of each kind of work in each process; those of transport only once a process."""
        windows: list[Window] = []
        known: set[tuple[str, str, int, str]] = set()
        for kind in kinds:
            work = self.new_work(kind)
            for process in PROCESSES:
                self.stack.traps.arm(process, work.marks())
            work.run()
            pause = threading.Event()
            pause.wait(BEHIND_S)
            for process in PROCESSES:
                self.stack.traps.disarm(process)
                windows += choose(process, kind, self.stack.traps.steps(process), known)
        return windows

    def run(self, windows: Sequence[Window], tell: Callable[[Trial], None] = lambda _: None) -> list[Trial]:
        """Try windows, at the same time one in each process; return what came of them. ``tell`` hears of each."""
        waiting: dict[str, list[Window]] = defaultdict(list)
        for window in windows:
            waiting[window.process].append(window)
        trials: list[Trial] = []
        while any(waiting.values()):
            together = [queue.pop(0) for queue in waiting.values() if queue]
            tried = self._run_together(together)
            for trial in tried:
                tell(trial)
            trials += tried
        return trials

    def _run_together(self, windows: Sequence[Window]) -> list[Trial]:
        before = Counter(self.stack.deaths)
        trials = [Trial(window) for window in windows]
        works = [self.new_work(window.work) for window in windows]
        threads = []
        for trial, work in zip(trials, works, strict=True):
            window = trial.window
            if window.process:
                self.stack.traps.arm(window.process, work.marks(), window.step, window.number, window.side)
            threads.append(threading.Thread(target=self._run_work, args=(trial, work), daemon=True))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._settle(trials, works)
        deaths = Counter(self.stack.deaths)
        deaths.subtract(before)
        for trial, work in zip(trials, works, strict=True):
            trial.sprung = self.stack.traps.disarm(trial.window.process)
            if not trial.problems:
                lost = trial.window.loses_a_message
                for other in trials:
                    # It may have died when it was about to take this message, too.
                    lost = lost or (other is not trial and other.window.process == work.worker)
                trial.problems += self.checks.check_work(work, deaths, may_be_swept=lost)
        return trials

    def run_calmly(self, kind: str) -> Trial:
        """Do work of a kind while nothing dies."""
        return self._run_together([Window("", kind, "", 0, "")])[0]

    def freeze(self, window: Window, *, until_ended: bool) -> Trial:
        """Stop one of two workers at a window, until the other has taken its task over, or even ended it."""
        trial, work = Trial(window), self.new_work(window.work)
        workers = (window.process, f"{window.process}2")
        for worker in workers:
            self.stack.traps.arm(worker, work.marks(), window.step, window.number, STOPPED)
        thread = threading.Thread(target=self._run_work, args=(trial, work), daemon=True)
        thread.start()
        try:
            work.wait_until(lambda: any(map(self.stack.traps.has_sprung, workers)), f"nobody comes to {window}")
            trial.sprung = True
            for worker in workers:
                if not self.stack.traps.has_sprung(worker):
                    self.stack.traps.disarm(worker)
            # Before the claim nobody has begun an attempt, and behind the end nobody begins one more.
            attempt = 2
            if window.step == "queue.claim" or window.step.startswith("ZREM"):
                attempt = 1
            work.wait_until(lambda: self._is_taken_over(work, attempt, until_ended=until_ended), "nobody takes it over")
        except NeverEnds as error:
            trial.problems.append(f"{work.name}: {error}")
        finally:
            for worker in workers:
                self.stack.resume(worker)
        thread.join()
        self._settle([trial], [work])
        if not trial.problems:
            # The worker that was stopped may have been about to take a message.
            deaths = Counter({window.process: 1})
            trial.problems += self.checks.check_work(work, deaths, may_be_swept=True)
        return trial

    def _is_taken_over(self, work: Work, attempt: int, *, until_ended: bool) -> bool:
        for task_id in work.expected():
            record = self.stack.redis().hgetall(f"graycat:task:{task_id}")
            begun = int(record.get("attempt", 0))
            if begun >= attempt and (record["state"] in ENDED or not until_ended):
                return True
        return False

    def _run_work(self, trial: Trial, work: Work) -> None:
        began = time.monotonic()
        try:
            work.run()
        except NeverEnds as error:
            trial.problems.append(f"{work.name}: {error}")
        except Exception as error:  # noqa: BLE001 (whatever it is, the trial has failed)
            trial.problems.append(f"{work.name}: {type(error).__name__}: {error}"[:300])
        trial.seconds = time.monotonic() - began

    def _settle(self, trials: Sequence[Trial], works: Sequence[Work]) -> None:
        """Wait until nothing is left of the work; what does not go is a problem of all that was tried."""
        pause = threading.Event()
        until = time.monotonic() + self._clean_s
        while True:
            left = self.checks.find_leftovers()
            for trial, work in zip(trials, works, strict=True):
                if not trial.problems and not self.checks.told_all(work):
                    left.append(f"{work.name}: its webhook was not told of everything")
            if not left:
                left = self.checks.check_usage()
            if not left or time.monotonic() > until:
                break
            pause.wait(LOOK_S)
        left += self.checks.find_troubles()
        for trial, work in zip(trials, works, strict=True):
            others = tuple(f"{other.name}:" for other in works if other is not work)
            trial.problems += [problem for problem in left if not problem.startswith(others or "\0")]


def choose(
    process: str, kind: str, steps: Sequence[tuple[str, int, str]], known: set[tuple[str, str, int, str]]
) -> list[Window]:
    """Return the windows among the steps of one kind of work in one process; ``known``: steps that others had."""
    last: dict[str, int] = {}
    for step, number, _ in steps:
        last[step] = max(number, last.get(step, 0))
    windows = []
    for step, number, side in steps:
        # How far work comes that is cancelled is chance.
        is_last = kind in WHOLE and number == last[step]
        if not (number in NUMBERS or is_last) or is_superfluous(process, kind, step, number, side):
            continue
        owner = kind
        if step.startswith(TRANSPORT):
            owner = ""
        elif process in ("sd", "control") and kind == "schedule" and not step.startswith("schedules."):
            # Its batch is one as any other.
            owner = "batch"
        if (process, owner + step, number, side) not in known:
            known.add((process, owner + step, number, side))
            windows.append(Window(process, kind, step, number, side))
    return windows


def is_superfluous(process: str, kind: str, step: str, number: int, side: str) -> bool:
    """Return whether another window is the same one."""
    if side == BEFORE and (step.startswith("BRPOP") or (process == "control" and kind in ("batch", "schedule"))):
        # What is taken is noted only then; and a runner takes its steps in turn: behind one is before the next.
        return True
    is_timed = step in TIMED or (step.startswith("ZADD unacked_index:") and "HSET" not in step)
    if kind == LONG or (process == "llm" and is_timed):
        return not (process == "llm" and kind == LONG and step in TIMED and number == 1)
    if is_timed and step.startswith("ZADD"):
        return True
    return number > 1 and (process == "beat" or is_timed or step.startswith(TRANSPORT))


#: The most telling ones: CI tries them.
SHORT = (
    Window("web", "text", "queue.create", 1, AFTER),
    Window("llm", "text", "BRPOP llm", 1, AFTER),
    Window("sd", "image", "queue.finish", 1, BEFORE),
    Window("quick", "quick", "queue.claim", 1, AFTER),
    Window("control", "text", "webhook POST", 1, AFTER),
    Window("web", "cancel", "queue.cancel", 1, AFTER),
    Window("llm", "stream", "queue.publish", 2, AFTER),
    Window("sd", "image", "queue.finish", 1, AFTER),
    Window("control", "batch", "append to manifest.jsonl", 1, AFTER),
)
#: Where one of two workers stands still until the other has begun, or even ended, what it had.
FREEZES = (
    *(Window("llm", "text", step, 1, STOPPED) for step in ("queue.claim", "engine POST /completion", "queue.publish")),
    Window("llm", "text", "queue.finish", 1, STOPPED),
    Window("llm", "text", "ZREM unacked_index:llm + HDEL unacked:llm", 1, STOPPED),
    *(Window("sd", "image", step, 1, STOPPED) for step in ("queue.claim", "queue.renew", "queue.finish")),
    Window("sd", "image", "engine POST /sdapi/v1/txt2img", 1, STOPPED),
)


def count_by_process(windows: Iterable[Window]) -> Mapping[str, int]:
    """Return how many windows each process has."""
    return Counter(window.process for window in windows)
