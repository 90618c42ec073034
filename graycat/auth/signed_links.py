"""Signed links to the galleries of batches: a link shows one batch, and nothing else, until it expires."""

from __future__ import annotations

import hmac
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable

from graycat.auth.signing import SigningKey
from graycat.errors import Forbidden

#: Seconds for which a link is valid: at least, by default, at most.
MIN_TTL_S, DEFAULT_TTL_S, MAX_TTL_S = 60, 7 * 86_400, 30 * 86_400


class SignedLinks:
    """Signs links and checks them; needs no broker."""

    def __init__(self, key: SigningKey, now: Callable[[], float] = time.time) -> None:
        self._key = key
        self._now = now

    def sign(self, batch_id: str, ttl_s: int) -> dict[str, str]:
        """Return the query parameters of a link that expires after ``ttl_s`` seconds."""
        expires = str(int(self._now()) + ttl_s)
        return {"expires": expires, "signature": self._signature(batch_id, expires)}

    def check(self, batch_id: str, expires: str, signature: str) -> None:
        """Raise Forbidden if a link was not signed here for this batch, or has expired."""
        if not hmac.compare_digest(self._signature(batch_id, expires).encode(), signature.encode()):
            raise Forbidden("this link is incomplete, or belongs to another gallery: ask for a new one")
        if int(expires) < self._now():
            raise Forbidden("this link has expired: ask for a new one")

    def _signature(self, batch_id: str, expires: str) -> str:
        return urlsafe_b64encode(self._key.mac("gallery", f"{batch_id} {expires}")).decode().rstrip("=")
