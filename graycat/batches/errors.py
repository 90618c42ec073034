"""Errors about batches; ``graycat.errors`` shows where they stand in the tree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graycat.errors import GraycatError, RequestError

#: Problems of one spec that its refusal names; a matrix may have thousands of the same.
MOST_TOLD = 20


class InvalidBatch(RequestError):
    """Raised when a batch's spec cannot be used. ``problems``: each with the path of its field, all at once."""

    type = "invalid_batch"

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        told = [f"{path}: {message}" if path else message for path, message in problems[:MOST_TOLD]]
        more = [f"and {len(problems) - MOST_TOLD} more"] if len(problems) > MOST_TOLD else []
        super().__init__("; ".join([*told, *more]))
        self.problems = tuple(problems)

    def body(self) -> dict[str, Any]:
        """Return the JSON object that the caller reads, its problems one by one."""
        whole = super().body()
        whole["error"]["problems"] = [{"path": path, "message": message} for path, message in self.problems[:MOST_TOLD]]
        return whole


class BatchNotFound(RequestError):
    """Raised when the caller has no batch with the id."""

    status, type = 404, "batch_not_found"

    def __init__(self) -> None:
        super().__init__("you have no batch with this id; batches that are over are kept for a while only")


class ItemNotFound(RequestError):
    """Raised when a batch has no such item, or the item has no file yet."""

    status, type = 404, "batch_item_not_found"

    def __init__(self) -> None:
        super().__init__("this batch has no item with this number, or the item has no file")


class BatchConflict(RequestError):
    """Raised when a key was used for a batch with another spec before."""

    status, type = 409, "batch_conflict"

    def __init__(self) -> None:
        super().__init__("this key belongs to a batch with another spec; use a new one")


class TooManyBatches(RequestError):
    """Raised when an API token has as many batches that are not over as it may."""

    status, type, retry_after_s = 429, "too_many_batches", 60

    def __init__(self, most: int) -> None:
        super().__init__(f"you have {most} batches that are not over, and may have no more; wait for one to end")


class WrongBatchState(RequestError):
    """Raised when a batch is not in a state from which it can do what is asked."""

    status, type = 409, "wrong_batch_state"

    def __init__(self, verb: str, state: str) -> None:
        super().__init__(f"a batch that is {state} cannot {verb}")


class OutputUnavailable(GraycatError):
    """Raised when the files of a batch cannot be written or read. ``reason`` is for the batch's owner."""

    status, type, retry_after_s = 503, "output_unavailable", 30

    def __init__(self, reason: str) -> None:
        super().__init__(f"the output of the batch cannot be used: {reason}")
        self.reason = reason
