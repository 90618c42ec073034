"""Metrics of what API tokens use, as the control worker counts it."""

from __future__ import annotations

from prometheus_client import Counter

from graycat.metrics.worker import registry

#: API tokens with a label of their own in a process; all further ones are ``other``.
MAX_TOKENS = 100
OTHER = "other"

REQUESTS = Counter(
    "graycat_usage_requests_total",
    "Tasks that have ended, in whatever way, by API token (a player's count for its parent).",
    ["token", "family"],
    registry=registry,
)
TOKENS = Counter(
    "graycat_usage_tokens_total",
    "Tokens that engines read (prompt) and wrote (completion) for tasks that have ended.",
    ["token", "family", "type"],
    registry=registry,
)
IMAGES = Counter(
    "graycat_usage_images_total",
    "Images that engines made for tasks that have ended.",
    ["token"],
    registry=registry,
)
GPU_SECONDS = Counter(
    "graycat_usage_gpu_seconds_total",
    "Seconds for which tasks that have ended had an engine, all their attempts together.",
    ["token", "family"],
    registry=registry,
)

_tokens: set[str] = set()


def count(token: str, family: str, *, prompt_tokens: int, completion_tokens: int, images: int, engine_ms: int) -> None:
    """Count an ended task."""
    label = _token_label(token)
    REQUESTS.labels(label, family).inc()
    TOKENS.labels(label, family, "prompt").inc(prompt_tokens)
    TOKENS.labels(label, family, "completion").inc(completion_tokens)
    IMAGES.labels(label).inc(images)
    GPU_SECONDS.labels(label, family).inc(engine_ms / 1000)


def _token_label(token: str) -> str:
    if token not in _tokens:
        if len(_tokens) >= MAX_TOKENS:
            return OTHER
        _tokens.add(token)
    return token
