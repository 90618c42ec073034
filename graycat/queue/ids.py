"""Ids of tasks: 32 characters, of which the first tells the family of engines; the others are hexadecimal digits.

Everything that the broker keeps of a task has its id in its key, and what a worker may touch there is a list of key
patterns. So a worker can be limited to the tasks of its own family (``worker.broker_acl``).
"""

from __future__ import annotations

import re
from uuid import uuid4

from graycat import families
from graycat.families import FAMILIES, EngineFamily

CHARS = 32
#: The form of an id that graycat made. An id that a caller chose is mapped to one of these.
_FIRST_DIGITS = "".join(family.id_digits for family in FAMILIES)
TASK_ID = re.compile(f"[{_FIRST_DIGITS}][0-9a-f]{{{CHARS - 1}}}")


def new_task_id(kind: str) -> str:
    """Return a new id for a task of a kind."""
    return task_id_for(kind, uuid4().hex)


def task_id_for(kind: str, digest: str) -> str:
    """Return the id that a digest (32 hexadecimal digits) stands for, always the same; raises KeyError for no family.

    An id that is of the kind's family already stays as it is.
    """
    family = families.find_by_kind(kind)
    if family is None:
        raise KeyError(kind)
    digits = family.id_digits
    if digest[0] in digits:
        return digest
    return digits[int(digest[0], 16) % len(digits)] + digest[1:]


def unused_task_id(kind: str) -> str:
    """Return what is the id of no task, but may be named in a key by workers of a kind's family."""
    family = families.find_by_kind(kind) or FAMILIES[0]
    return family.id_digits[0]


def task_ids_by_family(digest: str) -> dict[str, str]:
    """Return the id that a digest stands for in each family."""
    return {family.name: task_id_for(family.name, digest) for family in FAMILIES}


def family_of(task_id: str) -> EngineFamily:
    """Return the family of the task with an id; one that was not made here may be of the first."""
    return families.find_by_id(task_id)


def is_id_for(task_id: str, kind: str) -> bool:
    """Return whether an id is of the family of a kind; one that was not made here is of any family."""
    if len(task_id) != CHARS:
        return True
    family = families.find_by_kind(kind)
    return family is not None and task_id[0] in family.id_digits
