"""Links to the galleries of batches: who has one sees one batch, and nothing else, until it expires."""

from __future__ import annotations

import hmac
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable

from graycat.auth.signing import SigningKey
from graycat.errors import Forbidden

#: Seconds that a link may live.
SHORTEST_TTL_S, USUAL_TTL_S, LONGEST_TTL_S = 60, 7 * 86_400, 30 * 86_400


class SignedLinks:
    """Signs links and reads them; needs no broker."""

    def __init__(self, key: SigningKey, now: Callable[[], float] = time.time) -> None:
        self._key = key
        self._now = now

    def sign(self, batch_id: str, ttl_s: int) -> dict[str, str]:
        """Return the parameters of a link that ends after ``ttl_s`` seconds."""
        expires = str(int(self._now()) + ttl_s)
        return {"expires": expires, "signature": self._signature(batch_id, expires)}

    def check(self, batch_id: str, expires: str, signature: str) -> None:
        """Raise Forbidden where a link is not one of ours for this batch, or has expired."""
        if not hmac.compare_digest(self._signature(batch_id, expires).encode(), signature.encode()):
            raise Forbidden("this link is not whole, or is one to another gallery: ask for a new one")
        if int(expires) < self._now():
            raise Forbidden("this link has expired: ask for a new one")

    def _signature(self, batch_id: str, expires: str) -> str:
        return urlsafe_b64encode(self._key.mac("gallery", f"{batch_id} {expires}")).decode().rstrip("=")
