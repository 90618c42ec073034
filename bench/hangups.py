"""How long a real engine works on for a client that has left, while others stream: ``python -m bench.hangups``."""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.processes import eventually
from tests.support.stack import Stack, running
from tests.support.unity import send_post

#: Streams of others while a client leaves.
OTHERS = 3
#: How long they are: nearly as long as a slot's context, and no two end in the same step.
OTHERS_TOKENS = (7000, 7400, 7800)
#: Seconds after which the slot must be free: the median of all.
GOAL_S = 2.0
#: The same in steps of the engine, which do not depend on the machine. In each it computes one token of each stream,
#: and a batch of a prompt. It sees the hang-up when it writes after the next step, and ends the call before another.
GOAL_STEPS = 3
#: Seconds within which a slot is free in any case, or the measurement fails.
LIMIT_S = 120.0
#: Tokens of a long prompt. Beside three streams it takes a small machine half a minute.
LONG_PROMPT = 5000

ENDLESS: dict[str, Any] = {"ignore_eos": True, "temperature": 0}
CHAT = ENDLESS | {"messages": [{"role": "user", "content": "Count."}], "max_tokens": 4000}


def _long_prompt() -> tuple[str, dict[str, Any], bytes]:
    # Ids at random: no prompt before it lies in the cache.
    tokens = [2, *(1000 + os.urandom(2)[0] * 150 + number % 200 for number in range(LONG_PROMPT))]
    return "/completion", {"prompt": tokens, "n_predict": 1, "stream": True}, b""


def _whole_chat() -> tuple[str, dict[str, Any], bytes]:
    return "/v1/chat/completions", CHAT, b""


def _extra_line_end() -> tuple[str, dict[str, Any], bytes]:
    return "/v1/chat/completions", CHAT, b"\r\n"


#: What a client leaves: path, body, and the bytes that it sends behind its request.
LEAVES: dict[str, Callable[[], tuple[str, dict[str, Any], bytes]]] = {
    "in a long prompt": _long_prompt,
    "in a whole chat": _whole_chat,
    "in a whole chat, behind an extra line end": _extra_line_end,
}


@contextmanager
def others_streaming(stack: Stack) -> Iterator[None]:
    """Keep three streams going for the block."""
    leaving = threading.Event()

    def keep_streaming(tokens: int) -> None:
        body = ENDLESS | {"prompt": "1, 2, 3,", "n_predict": tokens, "stream": True}
        while not leaving.is_set():
            with send_post(stack.url, "/completion", body, stack.token) as connection, suppress(OSError):
                while connection.recv(65536) and not leaving.is_set():
                    pass

    threads = [threading.Thread(target=keep_streaming, args=(tokens,)) for tokens in OTHERS_TOKENS]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: stack.busy() == OTHERS, LIMIT_S)
        yield
    finally:
        leaving.set()
        for thread in threads:
            thread.join()
        eventually(lambda: stack.busy() == 0, LIMIT_S)


class Left(NamedTuple):
    """How long a slot was busy after its client had left: in seconds, and in steps of the engine."""

    seconds: float
    steps: int


def _tokens(stack: Stack) -> dict[int, int]:
    """Return how many tokens each task at work has so far, by its number."""
    tokens = {}
    for slot in stack.slots():
        if slot["is_processing"]:
            tokens[slot["id_task"]] = slot["next_token"][0]["n_decoded"]
    return tokens


def leave(stack: Stack, leaves: str) -> Left:
    """Have one more client ask and leave; return how long its slot was busy. Raises AssertionError at LIMIT_S."""
    path, body, behind = LEAVES[leaves]()
    others = _tokens(stack).keys()
    with send_post(stack.url, path, body, stack.token) as connection:
        connection.sendall(behind)
        eventually(lambda: _tokens(stack).keys() - others, LIMIT_S)
        before = _tokens(stack)
    own = before.keys() - others
    left = time.monotonic()
    eventually(lambda: not own & _tokens(stack).keys(), LIMIT_S)
    seconds = time.monotonic() - left
    after = _tokens(stack)
    return Left(seconds, max(after[task] - before[task] for task in others & before.keys() & after.keys()))


def measure(stack: Stack, leaves: str, count: int) -> list[Left]:
    """Return how long the slots of so many clients were busy that left one after the other."""
    return [leave(stack, leaves) for _ in range(count)]


def main() -> int:
    """Measure and print; return 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20, help="clients that leave in each way")
    count = parser.parse_args().count
    missed = False
    with tempfile.TemporaryDirectory() as home, running(Stack(Path(home) / "home")) as stack, others_streaming(stack):
        for leaves in LEAVES:
            seconds, steps = zip(*measure(stack, leaves, count), strict=True)
            median = statistics.median(seconds)
            missed = missed or median > GOAL_S
            sys.stdout.write(
                f"a client leaves {leaves}, beside {OTHERS} streams: slot free after {median:.2f} s (median of "
                f"{count}), {max(seconds):.2f} s at most; goal {GOAL_S:g} s. Steps of the engine: "
                f"{statistics.median(steps):g}, {max(steps)} at most; goal {GOAL_STEPS}\n"
            )
            sys.stdout.flush()
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
