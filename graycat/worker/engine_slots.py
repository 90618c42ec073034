"""What a text engine's slots are doing: looked at seldom for ``GET /slots``, and after a call was cut.

llama.cpp (build 11549) counts an answer to ``GET /slots`` as a result, and notices the hang-up of a plain call only
after a second without any result. So callers get what the worker last saw, and after a cut it looks with pauses.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

from graycat.bounds.stored import parse_json
from graycat.engines.client import EngineClient
from graycat.errors import EngineLost
from graycat.queue.kinds import SLOTS
from graycat.redaction.answers import hide_slot_texts

#: Seconds between two looks for those who ask for ``/slots``.
REFRESH_INTERVAL_S = 5.0
#: Seconds after a cut in which nobody looks but who waits for the slot.
QUIET_AFTER_CUT_S = 5.0
#: Seconds that one look may take: the engine answers between two batches of tokens.
LOOK_TIMEOUT_S = 2.0
#: Seconds before each look after a cut; the last is repeated. A stream ends at its next token, a prompt at its next
#: batch. A plain call ends when the engine has had no result for a second; on a busy machine that takes longer.
LOOK_DELAYS_S = (0.1, 0.2, 0.4, 2.5)
#: The number of busy slots of an engine that does not answer in time.
UNKNOWN = sys.maxsize
#: Seconds after which the next task is taken although the slot was not seen free.
FREE_TIMEOUT_S = 10.0


class EngineSlots:
    """The slots of one engine, as they were last seen."""

    def __init__(self, client: EngineClient) -> None:
        self._client = client
        #: The engine's last answer without prompts and answers; empty if it has none.
        self.reply = b""
        self._read_at = 0.0
        self._cut_at = -QUIET_AFTER_CUT_S

    @property
    def age_s(self) -> float:
        """Return how old the last answer is; 0 if there is none."""
        if not self.reply:
            return 0.0
        return time.monotonic() - self._read_at

    def refresh(self) -> None:
        """Look, if no call was cut within the last seconds."""
        if time.monotonic() - self._cut_at >= QUIET_AFTER_CUT_S:
            self._count_busy()

    def wait_until_free(self, count_expected: Callable[[], int]) -> bool:
        """Wait after a cut until no more slots work than the other calls need; return False at FREE_TIMEOUT_S.

        ``count_expected`` returns how many these are. An engine that does not tell what its slots do is not waited for.
        """
        self._cut_at = time.monotonic()
        deadline = self._cut_at + FREE_TIMEOUT_S
        looks = 0
        while time.monotonic() < deadline:
            time.sleep(LOOK_DELAYS_S[min(looks, len(LOOK_DELAYS_S) - 1)])
            looks += 1
            busy = self._count_busy()
            if busy is None or busy <= count_expected():
                return True
        return False

    def _count_busy(self) -> int | None:
        """Look at the slots, and return how many work; None if the engine does not tell, or is gone."""
        try:
            with self._client.open(SLOTS.method, SLOTS.path, timeout_s=LOOK_TIMEOUT_S) as response:
                reply = response.read()
            slots = parse_json(reply)
            busy = sum(bool(slot["is_processing"]) for slot in slots)
            shown = hide_slot_texts(slots)
        except EngineLost as lost:
            return UNKNOWN if isinstance(lost.__cause__, TimeoutError) else None
        except (ValueError, TypeError, LookupError):
            # An error, or the slots of another version.
            self.reply = b""
            return None
        self.reply = reply if shown == slots else json.dumps(shown).encode()
        self._read_at = time.monotonic()
        return busy
