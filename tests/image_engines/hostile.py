"""Tables of hostile values: each field of a render with each value, sent to graycat. None may be a 500."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass
from typing import Any

from graycat.images import webui_fields
from tests.support.sdbodies import IMAGE
from tests.support.stack import Client

TXT2IMG, IMG2IMG = "/sdapi/v1/txt2img", "/sdapi/v1/img2img"
#: The least that makes a picture: one pass of the model.
SMALL: dict[str, Any] = {"width": 16, "height": 16, "steps": 1, "cfg_scale": 1}
QUICK: dict[str, Any] = {"prompt": "a cat", "seed": 1, **SMALL}
#: Seconds that one render may take: one value asks for 64 steps.
RENDER_S = 600.0
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


@dataclass(frozen=True)
class Table:
    """Fields that are sent with each value: where to, and with which other fields."""

    path: str
    rest: dict[str, Any]
    fields: tuple[str, ...]


#: A second pass and an init image let an engine read fields that it leaves alone without them.
TABLES = {
    "txt2img": Table(TXT2IMG, QUICK, FIELDS),
    "second pass": Table(
        TXT2IMG,
        QUICK | {"enable_hr": True, "hr_scale": 2, "denoising_strength": 0.7},
        (*(name for name in FIELDS if name.startswith(("hr_", "firstphase_"))), "denoising_strength"),
    ),
    "img2img": Table(IMG2IMG, QUICK | {"init_images": [IMAGE]}, FIELDS),
}


def send_all(client: Client, table: Table) -> tuple[Counter[int], list[str]]:
    """Send a whole table; return how often each status came, and each request that had a 5xx."""
    statuses: Counter[int] = Counter()
    failed = []
    for field, value in itertools.product(table.fields, VALUES):
        answer = client.post(table.path, table.rest | {field: value}, timeout=RENDER_S)
        statuses[answer.status_code] += 1
        if answer.status_code >= 500:
            failed.append(f"{table.path} {field}={value!r:.60}: {answer.status_code} {answer.text[:200]}")
    return statuses, failed
