"""Ids of tasks: 32 hexadecimal digits, of which the first tells whose work it is.

Everything that the broker keeps of a task has its id in its key, and what a worker may touch there is a list of key
patterns. So the workers of a kind may be let to their own half of the tasks and to no other (``worker.broker_acl``).
"""

from __future__ import annotations

from uuid import uuid4

CHARS = 32
#: First digits of the ids of each family of kinds, and the pattern of a key's end that means them.
DIGITS = {"llm": "01234567", "sd": "89abcdef"}
PATTERNS = {"llm": "[0-7]*", "sd": "[89a-f]*"}


def family(kind: str) -> str:
    """Return the family of a kind of task: ``llm`` of ``llm.completion``."""
    return kind.partition(".")[0]


def of_kind(kind: str, digest: str = "") -> str:
    """Return an id for a task of a kind: a new one, or always the same for a digest (32 hexadecimal digits)."""
    digest = digest or uuid4().hex
    digits = DIGITS[family(kind)]
    return digits[int(digest[0], 16) % len(digits)] + digest[1:]


def of_nobody(kind: str) -> str:
    """Return what is the id of no task, and may be named where those of a kind may."""
    return DIGITS.get(family(kind), DIGITS["llm"])[0]


def of_any_kind(digest: str) -> dict[str, str]:
    """Return the id that a digest stands for in each family."""
    return {name: of_kind(name, digest) for name in DIGITS}


def is_of(task_id: str, kind: str) -> bool:
    """Tell whether an id is of the family of a kind; one that was not made here is of any."""
    return len(task_id) != CHARS or task_id[0] in DIGITS.get(family(kind), "")
