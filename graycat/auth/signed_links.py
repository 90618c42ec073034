"""Signed links: a link shows one thing (a batch's gallery, an image of a task), and nothing else, until it expires."""

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
    """Signs links and checks them; needs no broker. ``purpose``: what they show; those of another are useless."""

    def __init__(self, key: SigningKey, now: Callable[[], float] = time.time, purpose: str = "gallery") -> None:
        self._key = key
        self._now = now
        self._purpose = purpose

    def sign(self, name: str, ttl_s: int) -> dict[str, str]:
        """Return the query parameters of a link to ``name`` (a batch's id) that expires after ``ttl_s`` seconds."""
        expires = str(int(self._now()) + ttl_s)
        return {"expires": expires, "signature": self._signature(name, expires)}

    def check(self, name: str, expires: str, signature: str) -> None:
        """Raise Forbidden if a link was not signed here for ``name``, or has expired."""
        if not hmac.compare_digest(self._signature(name, expires).encode(), signature.encode(errors="replace")):
            raise Forbidden(f"this link is incomplete, or belongs to another {self._purpose}: ask for a new one")
        if int(expires) < self._now():
            raise Forbidden("this link has expired: ask for a new one")

    def _signature(self, name: str, expires: str) -> str:
        return urlsafe_b64encode(self._key.mac(self._purpose, f"{name} {expires}")).decode().rstrip("=")
