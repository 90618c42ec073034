"""Errors about batches; ``graycat.errors`` shows their place in the tree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graycat.errors import GraycatError, RequestError

#: An InvalidBatch names at most this many problems: a matrix may have thousands of the same.
MAX_PROBLEMS = 20


class InvalidBatch(RequestError):
    """Raised when a batch's spec is invalid. ``problems``: all of them, each as the path of its field and a message."""

    type = "invalid_batch"

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        texts = []
        for path, message in problems[:MAX_PROBLEMS]:
            texts.append(f"{path}: {message}" if path else message)
        if len(problems) > MAX_PROBLEMS:
            texts.append(f"and {len(problems) - MAX_PROBLEMS} more")
        super().__init__("; ".join(texts))
        self.problems = tuple(problems)

    def body(self) -> dict[str, Any]:
        """Return the JSON object of the response, with the problems as a list."""
        body = super().body()
        body["error"]["problems"] = [{"path": path, "message": text} for path, text in self.problems[:MAX_PROBLEMS]]
        return body


class BatchNotFound(RequestError):
    """Raised when the caller has no batch with the id."""

    status, type = 404, "batch_not_found"

    def __init__(self) -> None:
        super().__init__("you have no batch with this id; a batch that has ended is deleted after a while")


class ItemNotFound(RequestError):
    """Raised when a batch has no such item, or the item has no file yet."""

    status, type = 404, "batch_item_not_found"

    def __init__(self) -> None:
        super().__init__("this batch has no item with this number, or the item has no file yet")


class BatchConflict(RequestError):
    """Raised when a key was already used for a batch with another spec."""

    status, type = 409, "batch_conflict"

    def __init__(self) -> None:
        super().__init__("this key belongs to a batch with another spec; use a new key")


class TooManyBatches(RequestError):
    """Raised when an API token has reached its limit of batches that have not ended."""

    status, type, retry_after_s = 429, "too_many_batches", 60

    def __init__(self, limit: int) -> None:
        super().__init__(f"you have {limit} batches that have not ended, and that is the limit; wait for one to end")


class WrongBatchState(RequestError):
    """Raised when an action is not possible in the batch's current state."""

    status, type = 409, "wrong_batch_state"

    def __init__(self, action: str, state: str) -> None:
        super().__init__(f"a batch that is {state} cannot {action}")


class OutputUnavailable(GraycatError):
    """Raised when the files of a batch cannot be written or read. ``reason`` is shown to the batch's owner."""

    status, type, retry_after_s = 503, "output_unavailable", 30

    def __init__(self, reason: str) -> None:
        super().__init__(f"the output of the batch cannot be used: {reason}")
        self.reason = reason
