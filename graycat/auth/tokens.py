"""API tokens and their scopes; here those that ``API_TOKENS`` configures.

Only their hashes are kept in memory, and comparisons take constant time. ``graycat.auth.minted`` and
``graycat.auth.players`` have the other two kinds, ``graycat.auth.authenticator`` finds a token of any kind.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from graycat import families
from graycat.auth.limits import UNLIMITED, Limits
from graycat.errors import RequestError, SettingsError
from graycat.settings import Settings
from graycat.settings.secretfiles import load_or_create

#: Shorter secrets can be guessed.
MIN_SECRET_CHARS = 8
#: Secrets of one name in ``API_TOKENS``: while callers change from the old to the new one.
MAX_SECRETS = 2
#: The name of the generated token.
GENERATED = "default"

#: Scopes: the work of a family of engines, batches and batch priority, changes of engines and tokens, monitoring, what
#: others ask and get.
LLM, SD = families.LLM.scope, families.SD.scope
BATCH, ADMIN, METRICS, INSPECT = "batch", "admin", "metrics", "inspect"
ENGINE_SCOPES = tuple(family.scope for family in families.FAMILIES)
SCOPES = (*ENGINE_SCOPES, BATCH, ADMIN, METRICS, INSPECT)
#: The scopes of an API token for which none are given.
USUAL_SCOPES = frozenset({*ENGINE_SCOPES, BATCH})
#: Separates the name of an API token from that of its player, in the name of a player's token.
PLAYER_MARK = "/"


@dataclass(frozen=True, slots=True)
class ApiToken:
    """A caller's credential, without the secret. ``name`` is that of the owner in logs and records.

    ``prefix``: the public part of a minted token. ``parent``: the token with which a player's token was made; its
    limits apply to all its players together, beside their own. ``expires_at`` is in seconds of the epoch.
    """

    name: str
    digest: bytes
    scopes: frozenset[str] = USUAL_SCOPES
    limits: Limits = UNLIMITED
    expires_at: float | None = None
    prefix: str = ""
    parent: ApiToken | None = None
    #: The secret before the newest one, and until when that is accepted, too (seconds of the epoch).
    former_digest: bytes = b""
    former_until: int | None = None

    @property
    def admin(self) -> bool:
        """Return whether it may change engines and API tokens."""
        return ADMIN in self.scopes

    @property
    def holders(self) -> tuple[tuple[str, Limits], ...]:
        """Return the names and limits of the tokens to which its requests are charged: its own first."""
        holders = [(self.name, self.limits)]
        if self.parent is not None:
            holders.append((self.parent.name, self.parent.limits))
        return tuple(holders)


class ApiTokens:
    """The configured API tokens."""

    def __init__(
        self,
        named_secrets: Mapping[str, str],
        admins: frozenset[str] = frozenset(),
        former_secrets: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """``former_secrets``: those of names whose secret is being changed; they are accepted as well."""
        self._tokens = []
        for name, secret in (*named_secrets.items(), *former_secrets.items()):
            scopes = USUAL_SCOPES
            if name in admins:
                scopes |= {ADMIN}
            self._tokens.append(ApiToken(name, _digest(secret), scopes))

    def __iter__(self) -> Iterator[ApiToken]:
        """Yield the tokens, one for each secret."""
        return iter(self._tokens)

    def find(self, secret: str) -> ApiToken | None:
        """Return the token with this secret. The time that it takes does not depend on the secret."""
        digest = _digest(secret)
        found = None
        for token in self._tokens:
            if hmac.compare_digest(token.digest, digest):
                found = token
        return found

    @classmethod
    def from_settings(cls, settings: Settings) -> ApiTokens:
        """Return the tokens of ``API_TOKENS``; if it is empty, the generated one. Raises SettingsError."""
        named_secrets = parse_api_tokens(settings) or {GENERATED: load_generated_token(settings)}
        admins = frozenset(filter(None, map(str.strip, settings.admins.split(","))))
        unknown = admins - named_secrets.keys()
        if unknown:
            raise SettingsError(f"GRAYCAT_ADMINS names {', '.join(sorted(unknown))}, which API_TOKENS does not")
        return cls(named_secrets, admins, parse_former_secrets(settings))


def read_scopes(value: Any) -> frozenset[str]:
    """Return a list of scopes. Raises RequestError for anything else."""
    if not isinstance(value, list) or not all(scope in SCOPES for scope in value):
        raise RequestError(f"'scopes' must be a list of some of {', '.join(SCOPES)}")
    return frozenset(value)


def parse_api_tokens(settings: Settings) -> dict[str, str]:
    """Return the secrets of ``API_TOKENS`` by name, the newest of each. Raises SettingsError if one is unusable."""
    return {name: found[-1] for name, found in _parse_secrets(settings).items()}


def parse_former_secrets(settings: Settings) -> dict[str, str]:
    """Return the older secrets of ``API_TOKENS``, by name: of a name that is there twice, the first."""
    former = {}
    for name, found in _parse_secrets(settings).items():
        if len(found) > 1:
            former[name] = found[0]
    return former


def _parse_secrets(settings: Settings) -> dict[str, list[str]]:
    """Return the one or two secrets of each name in ``API_TOKENS``. Raises SettingsError for what is unusable."""
    secrets_by_name: dict[str, list[str]] = {}
    all_secrets: set[str] = set()
    unnamed: set[str] = set()
    for number, item in enumerate(filter(None, map(str.strip, settings.api_tokens.split(","))), start=1):
        name, colon, secret = item.partition(":")
        if not colon:
            name, secret = f"token{number}", item
            unnamed.add(name)
        if len(secret) < MIN_SECRET_CHARS:
            raise SettingsError(f"API_TOKENS: the secret of {name!r} has fewer than {MIN_SECRET_CHARS} characters")
        if PLAYER_MARK in name:
            raise SettingsError(
                f"API_TOKENS: the name {name!r} has a {PLAYER_MARK!r}, which only the names of players may have"
            )
        found = secrets_by_name.setdefault(name, [])
        if found and name in unnamed:
            raise SettingsError(f"API_TOKENS names {name!r} twice: a secret without a name has that one")
        if len(found) == MAX_SECRETS:
            raise SettingsError(f"API_TOKENS has more than {MAX_SECRETS} secrets of {name!r}: the old and the new one")
        if secret in all_secrets:
            raise SettingsError(f"API_TOKENS: {name!r} has the same secret as another: give each its own")
        found.append(secret)
        all_secrets.add(secret)
    return secrets_by_name


def token_file(settings: Settings) -> Path:
    """Return the file of the generated API token."""
    return settings.home / "api-token"


def load_generated_token(settings: Settings) -> str:
    """Return the generated API token. The first call generates it; only the file's owner can read it."""
    return load_or_create(token_file(settings), lambda: "gc_" + secrets.token_urlsafe(32))


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
