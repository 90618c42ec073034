"""A table of hostile values: each field of a render with each value, sent to graycat. None may be a 500."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from graycat.images import webui_fields
from tests.support.stack import Client

TXT2IMG = "/sdapi/v1/txt2img"
QUICK: dict[str, Any] = {"prompt": "a cat", "width": 64, "height": 64, "steps": 1, "seed": 1}
FIELDS = tuple(
    dict.fromkeys(
        (
            *webui_fields.SEED_FIELDS,
            *webui_fields.INT_FIELDS,
            *webui_fields.FLOAT_FIELDS,
            *webui_fields.BOOL_FIELDS,
            *webui_fields.TEXT_FIELDS,
            *webui_fields.OBJECT_FIELDS,
            *webui_fields.LIST_FIELDS,
            *webui_fields.OTHER_FIELDS,
        )
    )
)
#: Twelve values that some engine chokes on somewhere.
VALUES: tuple[Any, ...] = (None, True, -1, 2**31, 10**30, 1.5, "", "64", "x" * 3000, [], {}, [{"path": 5}])


def requests() -> Iterator[tuple[str, Any]]:
    """Yield each field with each value."""
    for field in FIELDS:
        for value in VALUES:
            yield field, value


def send_all(client: Client) -> tuple[Counter[int], list[str]]:
    """Send the whole table; return how often each status came, and each request that had a 5xx."""
    statuses: Counter[int] = Counter()
    failed = []
    for field, value in requests():
        answer = client.post(TXT2IMG, QUICK | {field: value})
        statuses[answer.status_code] += 1
        if answer.status_code >= 500:
            failed.append(f"{field}={value!r:.60}: {answer.status_code} {answer.text[:200]}")
    return statuses, failed
