"""API tokens: who may call. Only their hashes are kept in memory, and every compare takes the same time."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from pathlib import Path

from graycat.errors import SettingsError
from graycat.secretfiles import kept
from graycat.settings import Settings

#: Shorter secrets can be guessed.
MIN_SECRET_CHARS = 8
#: The name of the generated token.
GENERATED = "default"


@dataclass(frozen=True, slots=True)
class ApiToken:
    """A caller's credential, without the secret. ``name`` is what logs and records call its owner."""

    name: str
    digest: bytes
    admin: bool = False


class ApiTokens:
    """The API tokens of this copy."""

    def __init__(self, named_secrets: dict[str, str], admins: frozenset[str] = frozenset()) -> None:
        self._tokens = [ApiToken(name, _digest(secret), name in admins) for name, secret in named_secrets.items()]

    def find(self, secret: str) -> ApiToken | None:
        """Return the token with this secret; the time taken does not tell how near a guess was."""
        digest = _digest(secret)
        found = None
        for token in self._tokens:
            if hmac.compare_digest(token.digest, digest):
                found = token
        return found

    @classmethod
    def from_settings(cls, settings: Settings) -> ApiTokens:
        """Return the tokens of ``API_TOKENS``, or else the generated one."""
        named_secrets = configured(settings) or {GENERATED: generated(settings)}
        admins = frozenset(filter(None, map(str.strip, settings.admins.split(","))))
        if unknown := admins - named_secrets.keys():
            raise SettingsError(f"GRAYCAT_ADMINS names {', '.join(sorted(unknown))}, which API_TOKENS does not")
        return cls(named_secrets, admins)


def configured(settings: Settings) -> dict[str, str]:
    """Return the secrets of ``API_TOKENS`` by name. Raises SettingsError for one that is unusable."""
    secrets_by_name: dict[str, str] = {}
    for place, item in enumerate(filter(None, map(str.strip, settings.api_tokens.split(","))), start=1):
        name, colon, secret = item.partition(":")
        if not colon:
            name, secret = f"token{place}", item
        if len(secret) < MIN_SECRET_CHARS:
            raise SettingsError(f"API_TOKENS: the secret of {name!r} has fewer than {MIN_SECRET_CHARS} characters")
        if name in secrets_by_name:
            raise SettingsError(f"API_TOKENS names {name!r} twice")
        if secret in secrets_by_name.values():
            raise SettingsError(f"API_TOKENS: {name!r} has the secret of another; whose request would it be")
        secrets_by_name[name] = secret
    return secrets_by_name


def token_file(settings: Settings) -> Path:
    """Return where the generated API token is kept."""
    return settings.home / "api-token"


def generated(settings: Settings) -> str:
    """Return the generated API token; made at the first call, readable by its owner only."""
    return kept(token_file(settings), lambda: "gc_" + secrets.token_urlsafe(32))


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
