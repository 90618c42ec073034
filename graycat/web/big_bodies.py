"""Requests with big bodies take turns: one step of one of them between two looks at the sockets."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import gevent
from flask import g, request

from graycat.errors import BodyTooLarge
from graycat.front.turns import Turns
from graycat.settings import variable
from graycat.web.services import services

#: A body of so many bytes takes milliseconds at each step: reading it, checking it, writing it anew.
BIG_BODY_BYTES = 256 * 1024

#: The turns of each event loop: a process has one, beside the threads that run without it.
_turns: WeakKeyDictionary[Any, Turns] = WeakKeyDictionary()


def wait_for_turn(size: int) -> None:
    """Wait until the next step with a body of ``size`` bytes may begin; a small one needs no turn.

    Each caller has its turn: who sends many bodies at once waits for its own.
    """
    if size < BIG_BODY_BYTES:
        return
    hub = gevent.get_hub()
    turns = _turns.get(hub)
    if turns is None:
        turns = _turns[hub] = Turns(per_round=1)
    turns.wait(g.get("owner", ""), is_urgent=False)


def too_large() -> BodyTooLarge:
    """Return the error for a body over this request's limit. It names the limit and the setting that has it."""
    settings = services().settings
    setting = "max_body_bytes"
    if request.max_content_length == settings.max_image_body_bytes:
        setting = "max_image_body_bytes"
    largest = getattr(settings, setting)
    return BodyTooLarge(
        f"the request body may have {largest} bytes here; send less, or have the operator raise {variable(setting)}"
    )
