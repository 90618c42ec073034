"""What "LLM for Unity" does when the connection of an answer breaks: it sends the whole request again, some times.

The patterns are those of the clients themselves, by their sources and by measurement: v3 pauses for 1, 2, 4, 8, 16 s
before its five retries, also after an error; v2 for 200 ms times the number of the retry, nine times, but for a 401.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.support.unity import Answer, BrokenAnswer, ErrorAnswer, V2Reader, V3Reader, send_post

#: Seconds before each retry.
V3_PAUSES_S = (1.0, 2.0, 4.0, 8.0, 16.0)
V2_PAUSES_S = tuple(0.2 * number for number in range(1, 10))


@dataclass
class Game:
    """One request of a game, with all its attempts.

    ``attempts``: when each that failed was sent (monotonic clock), and what became of it. ``answer``: what the game
    gets; None if it gets an empty one.
    """

    name: str
    reader: V2Reader | V3Reader
    pauses_s: Sequence[float]
    attempts: list[tuple[float, str]] = field(default_factory=list)
    answer: Answer | None = None

    @classmethod
    def v3(cls, name: str) -> Game:
        """Return a game on v3 of the asset."""
        return cls(name, V3Reader(), V3_PAUSES_S)

    @classmethod
    def v2(cls, name: str) -> Game:
        """Return a game on v2 of the asset."""
        return cls(name, V2Reader(), V2_PAUSES_S)

    def play(self, url: str, token: str, body: dict[str, Any]) -> Game:
        """Ask until there is an answer or no retry is left; each attempt has a request id of its own (NAME.NUMBER)."""
        for number in range(len(self.pauses_s) + 1):
            if number:
                threading.Event().wait(self.pauses_s[number - 1])
            sent_at = time.monotonic()
            headers = {"X-Request-ID": f"{self.name}.{number}"}
            try:
                with send_post(url, "/completion", body, token, headers) as connection:
                    self.answer = self.reader.read(connection)
                return self
            except ErrorAnswer as error:
                self.attempts.append((sent_at, f"error {error.status}"))
                if error.status == 401 and isinstance(self.reader, V2Reader):
                    return self
            except BrokenAnswer:
                self.attempts.append((sent_at, "broken"))
            except ConnectionRefusedError:
                self.attempts.append((sent_at, "refused"))
            except OSError:
                self.attempts.append((sent_at, "broken"))
        return self
