"""Metrics of a worker: its tasks from claim to end, the output of its engine, and its other work.

No function here is called per token: a stream is observed once, at its end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from graycat.loops.unexpected import UNEXPECTED
from graycat.queue.models import Attempt
from graycat.queue.names import base_queue

registry = CollectorRegistry()
registry.register(UNEXPECTED)

#: Seconds.
WAIT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900)
FIRST_TOKEN_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2.5, 5, 10, 30, 60)
TOKEN_BUCKETS = (0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1)
IMAGE_BUCKETS = (0.1, 0.25, 0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 60, 120, 300, 900)
CANCEL_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
#: Tokens, and steps, a second.
RATE_BUCKETS = (1, 2, 5, 10, 20, 30, 50, 75, 100, 150, 200, 300, 500, 1000)
STEP_BUCKETS = (0.1, 0.25, 0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 50, 100)

QUEUE_WAIT = Histogram(
    "graycat_task_queue_wait_seconds",
    "Seconds that a task waited in its queue until a worker claimed it; one that was handed back waits anew.",
    ["queue"],
    buckets=WAIT_BUCKETS,
    registry=registry,
)
TASKS = Counter(
    "graycat_tasks_total",
    "Messages of tasks that a worker is done with, by what became of them.",
    ["kind", "outcome"],
    registry=registry,
)
ATTEMPTS = Counter(
    "graycat_task_attempts_total",
    "Attempts at tasks that a worker began; again: after one that was handed back or lost.",
    ["kind", "nth"],
    registry=registry,
)
FENCED = Counter(
    "graycat_task_fenced_total",
    "Attempts whose result was refused, because another attempt owned the task or it had ended.",
    ["kind"],
    registry=registry,
)
FIRST_TOKEN = Histogram(
    "graycat_time_to_first_token_seconds",
    "Seconds from the claim of a streamed task to the first event of its engine.",
    ["kind"],
    buckets=FIRST_TOKEN_BUCKETS,
    registry=registry,
)
TOKENS = Counter(
    "graycat_tokens_total",
    "Tokens that engines have streamed (for streams that do not tell, their events).",
    ["kind"],
    registry=registry,
)
TOKEN_SECONDS = Histogram(
    "graycat_time_per_output_token_seconds",
    "Mean seconds between two tokens of a stream, observed once a stream at its end.",
    ["kind"],
    buckets=TOKEN_BUCKETS,
    registry=registry,
)
TOKEN_RATE = Histogram(
    "graycat_tokens_per_second",
    "Tokens a second of a stream from its first token on, observed once a stream at its end.",
    ["kind"],
    buckets=RATE_BUCKETS,
    registry=registry,
)
IMAGE_SECONDS = Histogram(
    "graycat_image_seconds",
    "Seconds that an image engine took for one request, however many images that made.",
    ["kind"],
    buckets=IMAGE_BUCKETS,
    registry=registry,
)
STEP_RATE = Histogram(
    "graycat_image_steps_per_second",
    "Sampling steps a second of a request for images, all its images together.",
    ["kind"],
    buckets=STEP_BUCKETS,
    registry=registry,
)
IMAGES = Counter("graycat_images_total", "Images that engines have made.", ["kind"], registry=registry)
CANCEL_TO_FREE = Histogram(
    "graycat_cancel_to_free_seconds",
    "Seconds from a worker's hearing that a running task is cancelled to its engine being free of it.",
    ["kind"],
    buckets=CANCEL_BUCKETS,
    registry=registry,
)
SWEPT = Counter(
    "graycat_tasks_swept_total",
    "Tasks that the broker had lost and the sweeper enqueued again.",
    ["kind"],
    registry=registry,
)
DELIVERIES = Counter(
    "graycat_webhook_deliveries_total",
    "Tries to tell a webhook, by what became of them: delivered, failed (given up), pending (tried again), stale.",
    ["outcome"],
    registry=registry,
)
FIRES = Counter(
    "graycat_schedule_fires_total",
    "Nominal times of schedules, by what became of them: fired, skipped, missed.",
    ["outcome"],
    registry=registry,
)

FORGED = Counter(
    "graycat_forged_total",
    "What a worker of a box cannot have written honestly, and was dropped: notes for webhooks (note).",
    ["what"],
    registry=registry,
)

FORGED.labels("note")
for _outcome in ("delivered", "failed", "pending", "stale"):
    # The series begin at zero, so that the first event shows as an increase.
    DELIVERIES.labels(_outcome)
for _outcome in ("fired", "skipped", "missed"):
    FIRES.labels(_outcome)


def observe_claim(attempt: Attempt) -> None:
    """Count an attempt that starts, and observe how long its task has waited."""
    QUEUE_WAIT.labels(base_queue(attempt.queue)).observe(attempt.waited_s)
    nth = "first"
    if attempt.number > 1:
        nth = "again"
    ATTEMPTS.labels(attempt.kind, nth).inc()


#: Outcomes of refused claims by their reasons; any other reason is ``dropped``.
_REFUSED = {"cancelled": "cancelled", "expired": "expired", "lost": "failed", "yield": "yielded"}


def count_refusal(kind: str, reason: str) -> None:
    """Count a message whose task could not be claimed."""
    TASKS.labels(kind, _REFUSED.get(reason, "dropped")).inc()


def count_attempt(kind: str, outcome: str, stopped_at: float) -> None:
    """Count an attempt at its end; ``stopped_at``: when it was asked to stop (monotonic clock), 0 if it was not."""
    TASKS.labels(kind, outcome.replace(" ", "_")).inc()
    if outcome == "stale":
        FENCED.labels(kind).inc()
    if outcome == "cancelled" and stopped_at:
        CANCEL_TO_FREE.labels(kind).observe(time.monotonic() - stopped_at)


def observe_stream(kind: str, claimed_at: float, first_at: float, tokens: int) -> None:
    """Observe a stream at its end; times are on the monotonic clock, ``first_at`` is 0 if no event came."""
    if not first_at:
        return
    FIRST_TOKEN.labels(kind).observe(first_at - claimed_at)
    TOKENS.labels(kind).inc(tokens)
    took_s = time.monotonic() - first_at
    if tokens > 1 and took_s > 0:
        TOKEN_SECONDS.labels(kind).observe(took_s / (tokens - 1))
        TOKEN_RATE.labels(kind).observe((tokens - 1) / took_s)


def observe_images(kind: str, seconds: float, images: int, steps: int) -> None:
    """Observe a request for images; ``steps`` of one image, 0 if the engine does not report them."""
    IMAGE_SECONDS.labels(kind).observe(seconds)
    IMAGES.labels(kind).inc(images)
    if images and steps and seconds > 0:
        STEP_RATE.labels(kind).observe(images * steps / seconds)


class EngineCounts:
    """A collector of what a supervisor counts. ``load_s``: 0 until the engine was ready once."""

    def __init__(self, starts: Callable[[], int], load_s: Callable[[], float]) -> None:
        self._starts = starts
        self._load_s = load_s

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics."""
        text = "Starts of the engine by its worker: the first one, and every restart."
        yield CounterMetricFamily("graycat_engine_starts", text, value=self._starts())
        text = "Seconds that the engine took from its last start until it was ready."
        yield GaugeMetricFamily("graycat_engine_load_seconds", text, value=self._load_s())
