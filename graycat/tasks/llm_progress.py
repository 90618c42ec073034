"""Asks an engine to tell how far it is with a long prompt, so that a hang-up ends it there too.

While an engine computes a prompt it writes nothing to its caller, and only a failed write ends a call while other
requests are answered: a call whose client had left during a prompt of 3,000 tokens kept its slot for 26 s beside three
streams. With ``return_progress`` llama.cpp writes an event after each batch of the prompt, and the same slot was free
after 0.5 s. The relay leaves these events out (``RelayedStream``).
"""

from __future__ import annotations

from graycat.queue.kinds import CHAT, COMPLETION, GATHER, INFILL, OPENAI_COMPLETION, RESPONSES
from graycat.queue.models import Attempt

#: A prompt in a body of fewer bytes is computed soon, and is worth no further events: about 500 tokens.
LONG_BODY_BYTES = 2048
#: Kinds whose streams are the same but for these events. ``/v1/responses`` has its own events changed by them, and
#: ``/v1/messages`` (build 11549) has none.
_STREAMED = frozenset(kind.name for kind in (COMPLETION, INFILL, OPENAI_COMPLETION, CHAT))
_GATHERED = _STREAMED | {RESPONSES.name}


def ask_for_progress(attempt: Attempt) -> bytes:
    """Return the body that an engine is sent: the attempt's own, the same object, or one that asks for progress too.

    The caller's bytes stay as they are behind the additional field.
    """
    body = attempt.body
    kinds = _GATHERED if attempt.mode == GATHER else _STREAMED
    if attempt.kind not in kinds or len(body) < LONG_BODY_BYTES:
        return body
    if b'"return_progress"' in body or not body.startswith(b"{"):
        return body
    return b'{"return_progress":true,' + body[1:]
