"""The key behind API tokens: with it graycat hashes those that it mints and signs those of players."""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path

from graycat.settings import Settings


class TokenKey:
    """Keyed hashes (HMAC-SHA256). Each purpose has its own: what is made for one is worth nothing for another."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    def mac(self, purpose: str, text: str) -> bytes:
        """Return the keyed hash of a text for a purpose."""
        return hmac.digest(self._secret, f"{purpose}\0{text}".encode(), "sha256")

    @classmethod
    def from_settings(cls, settings: Settings) -> TokenKey:
        """Return the key of ``GRAYCAT_TOKEN_KEY``, or else the generated one."""
        return cls(settings.token_key or kept_secret(key_file(settings)))


def key_file(settings: Settings) -> Path:
    """Return where the generated key is kept."""
    return settings.home / "token-key"


def kept_secret(path: Path, prefix: str = "") -> str:
    """Return the secret that a file holds; made at the first call, readable by its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.touch(mode=0o600)
    fresh.write_text(prefix + secrets.token_urlsafe(32) + "\n")
    try:
        # Appears whole or not at all, and only once: of two processes that start together, one wins.
        os.link(fresh, path)
    except FileExistsError:
        pass
    finally:
        fresh.unlink()
    return path.read_text().strip()
