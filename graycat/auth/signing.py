"""The key behind API tokens: graycat hashes minted tokens and signs players' tokens with it."""

from __future__ import annotations

import hmac
import secrets
from pathlib import Path

from graycat.settings import Settings
from graycat.settings.secretfiles import load_or_create


class SigningKey:
    """Keyed hashes (HMAC-SHA256). Each purpose has its own, so a hash for one purpose is useless for another."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    def mac(self, purpose: str, text: str) -> bytes:
        """Return the keyed hash of a text for a purpose."""
        return hmac.digest(self._secret, f"{purpose}\0{text}".encode(), "sha256")

    @classmethod
    def from_settings(cls, settings: Settings) -> SigningKey:
        """Return the key of ``GRAYCAT_TOKEN_KEY``; without that, the generated one."""
        if settings.token_key:
            return cls(settings.token_key)
        return cls(load_or_create(key_file(settings), lambda: secrets.token_urlsafe(32)))


def key_file(settings: Settings) -> Path:
    """Return the file of the generated key."""
    return settings.home / "token-key"
