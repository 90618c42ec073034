"""The key behind API tokens: with it graycat hashes those that it mints and signs those of players."""

from __future__ import annotations

import hmac
import secrets
from pathlib import Path

from graycat.settings import Settings
from graycat.settings.secretfiles import load_or_create


class SigningKey:
    """Keyed hashes (HMAC-SHA256). Each purpose has its own: what is made for one is worth nothing for another."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    def mac(self, purpose: str, text: str) -> bytes:
        """Return the keyed hash of a text for a purpose."""
        return hmac.digest(self._secret, f"{purpose}\0{text}".encode(), "sha256")

    @classmethod
    def from_settings(cls, settings: Settings) -> SigningKey:
        """Return the key of ``GRAYCAT_TOKEN_KEY``, or else the generated one."""
        return cls(settings.token_key or load_or_create(key_file(settings), lambda: secrets.token_urlsafe(32)))


def key_file(settings: Settings) -> Path:
    """Return where the generated key is kept."""
    return settings.home / "token-key"
