"""What ``graycat up`` prints while its processes start: a line when one is ready, and what the others wait for."""

from __future__ import annotations

from dataclasses import dataclass, field

from graycat.supervision.notifications import Notification
from graycat.supervision.output import OutputPrinter

#: Seconds until the first line that says what is waited for, doubled for each further one, up to the last.
FIRST_INTERVAL_S, LAST_INTERVAL_S = 5.0, 60.0
#: Characters of a bar on a terminal.
BAR_CHARS = 24
#: What the supervisor itself says stands behind this name.
NAME = "up"


@dataclass
class _Wait:
    """What a process waits for, '' if it has only started, and since when (seconds)."""

    text: str
    since: float
    progress: float | None = None

    def describe(self, now: float) -> str:
        text = self.text
        if self.progress is not None:
            text += f" {100 * self.progress:.0f} %"
        return f"{text}, {now - self.since:.0f} s"

    def draw(self, now: float) -> str:
        """Return the same with a bar, for a terminal."""
        if self.progress is None:
            return self.describe(now)
        full = round(BAR_CHARS * self.progress)
        bar = "#" * full + "-" * (BAR_CHARS - full)
        return f"{self.text} [{bar}] {100 * self.progress:.0f} %, {now - self.since:.0f} s"


@dataclass
class StartupConsole:
    """Follows the processes from their start until they are ready. Its caller keeps the clock (seconds).

    On a terminal, what is waited for is one line that is written anew; elsewhere it is a line at growing intervals.
    """

    printer: OutputPrinter
    #: What they all wait for, as the web server tells it; '' if nothing is known. Any thread may set it.
    reason: str = ""
    #: What is printed once callers are served: then nobody waits for the rest. Any thread may set it.
    greeting: str = ""
    _greeted: bool = False
    _waits: dict[str, _Wait] = field(default_factory=dict)
    _began_at: float | None = None
    _interval_s: float = FIRST_INTERVAL_S
    _print_at: float = 0.0

    def process_started(self, name: str, now: float) -> None:
        """Note that a process has started, which will tell when it is ready."""
        self._waits[name] = _Wait("", now)

    def process_ended(self, name: str) -> None:
        """Note that a process has ended. The supervisor says so."""
        self._waits.pop(name, None)

    def take(self, name: str, notification: Notification, now: float) -> None:
        """Take what a process says of itself."""
        if notification.ready:
            self._waits.pop(name, None)
            self.printer.say(name, ": ".join(filter(None, ("ready", notification.text))))
            return
        wait = self._waits.get(name)
        if wait is None or wait.text != notification.text:
            self._waits[name] = wait = _Wait(notification.text, now)
        wait.progress = notification.progress

    def step(self, now: float) -> None:
        """Print the greeting, or what is waited for, if that is due."""
        if self.greeting and not self._greeted:
            self._greeted = True
            self.printer.show_live("")
            self.printer.say_text(self.greeting)
        if self._greeted:
            return
        if self._began_at is None:
            self._began_at, self._print_at = now, now + self._interval_s
        if self.printer.is_terminal:
            self.printer.show_live("; ".join(self._list_waits(now, drawn=True)))
        elif now >= self._print_at:
            self._interval_s = min(2 * self._interval_s, LAST_INTERVAL_S)
            self._print_at = now + self._interval_s
            waits = "; ".join(self._list_waits(now, drawn=False))
            if waits:
                self.printer.say(NAME, f"waiting: {waits}")

    def _list_waits(self, now: float, *, drawn: bool) -> list[str]:
        waits, starting = [], []
        for name, wait in self._waits.items():
            if wait.text:
                waits.append(wait)
            else:
                starting.append((name, wait.since))
        # What can be seen to move first: a terminal may show no more.
        waits.sort(key=lambda wait: wait.progress is None)
        if starting:
            names = ", ".join(name for name, _ in starting)
            waits.append(_Wait(f"starting {names}", min(since for _, since in starting)))
        if not waits and self.reason and self._began_at is not None:
            waits = [_Wait(self.reason, self._began_at)]
        return [wait.draw(now) if drawn else wait.describe(now) for wait in waits]
