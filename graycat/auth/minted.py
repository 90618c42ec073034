"""Minted API tokens: made by an operator or an admin, stored in the broker, their secret shown once.

A secret is ``gc_PREFIX_REST``. The prefix is public and identifies the token. The broker has a keyed hash of the whole
secret, with the token's scopes and limits under a seal (a keyed hash, too). So access to the broker is not enough to
call with a token, or to give it more scopes.
"""

from __future__ import annotations

import hmac
import json
import re
import secrets
import string
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from typing import Any

from graycat import params
from graycat.auth.errors import (
    InvalidToken,
    TokenExpired,
    TokenNameTaken,
    TokenNotFound,
    TokenRevoked,
    TokenUnknown,
)
from graycat.auth.limits import UNLIMITED, Limits
from graycat.auth.signing import SigningKey
from graycat.auth.tokens import SCOPES, USUAL_SCOPES, ApiToken, read_scopes
from graycat.auth.tombstones import Tombstones
from graycat.broker import keys
from graycat.broker.client import broker_errors
from graycat.broker.protocol import Broker, WatchingPipeline
from graycat.broker.watching import change_watched
from graycat.errors import BrokerUnavailable, RequestError, SettingsError
from graycat.loops.unexpected import guarded

#: Seconds for which a process caches a token; a revoked one may still call for so long.
FRESH_S = 2.0
#: The last use of a token is written at most once in this many seconds.
USE_INTERVAL_S = 60.0
#: Tokens in the cache of a process; only tokens that were minted once get there.
MAX_CACHED = 10_000
#: Seconds: ten years.
MAX_TTL_S = 10 * 365 * 86400

_PUBLIC = string.ascii_lowercase + string.digits
_SECRET = re.compile(r"(gc_[a-z0-9]{8})_([A-Za-z0-9_-]{43})([A-Za-z0-9_-]{8})", re.ASCII)
#: Without the mark of players' tokens, and not like a prefix.
_NAME = re.compile(r"(?!g[cp]_)[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_SEAL_CHARS = 64
_PREFIX = re.compile(r"gc_[a-z0-9]{8}", re.ASCII)
#: The seal and the beginning of a record.
_SEALED = re.compile(rb"[0-9a-f]{64}\{")
#: A time in seconds. Longer numbers are none.
_SECONDS = re.compile(rb"[0-9]{1,11}")


@dataclass(frozen=True, slots=True)
class Grant:
    """A token to mint: the name of its owner, its scopes, its limits, and how long it is valid."""

    name: str
    scopes: frozenset[str] = USUAL_SCOPES
    limits: Limits = UNLIMITED
    ttl_s: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise RequestError("'name' must be 1 to 64 letters, digits, '.', '_' or '-', and not begin like a token")
        if not self.scopes:
            raise RequestError(f"'scopes' must name some of {', '.join(SCOPES)}")
        if self.ttl_s is not None and not 1 <= self.ttl_s <= MAX_TTL_S:
            raise RequestError(f"'ttl_s' must be a number of seconds, 1 to {MAX_TTL_S}")

    @classmethod
    def read(cls, body: dict[str, Any]) -> Grant:
        """Return the grant that a JSON object describes. Raises RequestError, also for an unknown field."""
        params.refuse_unknown(body, ("name", "scopes", "limits", "ttl_s"))
        ttl_s = body.get("ttl_s")
        if ttl_s is not None and (isinstance(ttl_s, bool) or not isinstance(ttl_s, int)):
            raise RequestError("'ttl_s' must be a number of seconds")
        scopes = USUAL_SCOPES
        if body.get("scopes") is not None:
            scopes = read_scopes(body["scopes"])
        return cls(body.get("name", ""), scopes, Limits.read(body.get("limits")), ttl_s)


@dataclass(frozen=True, slots=True)
class Minted:
    """A minted token with its times, in seconds of the epoch."""

    token: ApiToken
    created_at: int
    last_used_at: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON, without anything secret."""
        token = self.token
        return {
            "prefix": token.prefix,
            "name": token.name,
            "scopes": sorted(token.scopes),
            "limits": token.limits.to_dict(),
            "created_at": self.created_at,
            "expires_at": token.expires_at,
            "last_used_at": self.last_used_at,
        }


class MintedTokens:
    """The minted tokens in the broker. ``now`` returns the time of day, ``clock`` a monotonic time."""

    def __init__(
        self,
        client: Broker,
        key: SigningKey,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._key = key
        self._now = now
        self._clock = clock
        self._tombstones = Tombstones(client, now, clock)
        #: By prefix: when a token was read (``clock``), and the token.
        self._cached: dict[str, tuple[float, ApiToken | None]] = {}
        #: By prefix: when its use was written last (``now``).
        self._noted: dict[str, float] = {}

    def mint(self, grant: Grant) -> tuple[str, Minted]:
        """Make a token; return its secret, which is stored nowhere. Raises TokenNameTaken, BrokerUnavailable.

        Raises SettingsError if the existing tokens were minted with another key: web processes would not accept this
        one.
        """
        prefix = "gc_" + "".join(secrets.choice(_PUBLIC) for _ in range(8))
        rest = secrets.token_urlsafe(32)
        secret = f"{prefix}_{rest}{self._tag(prefix, rest)}"
        created_at = int(self._now())
        expires_at = None
        if grant.ttl_s is not None:
            expires_at = created_at + grant.ttl_s
        token = ApiToken(grant.name, self._digest(secret), grant.scopes, grant.limits, expires_at, prefix)
        minted = Minted(token, created_at)

        def add(pipe: WatchingPipeline) -> None:
            found = pipe.hgetall(keys.API_TOKENS)
            self._check_key(found)
            for other in self._read_all(found):
                if other.token.prefix == prefix or (other.token.digest and other.token.name == grant.name):
                    raise TokenNameTaken(f"{other.token.prefix} has the name {grant.name!r}; revoke that first")
            pipe.multi()
            pipe.hset(keys.API_TOKENS, prefix, self._seal(minted))

        with broker_errors():
            change_watched(self._client, keys.API_TOKENS, add)
        return secret, minted

    def all(self) -> list[Minted]:
        """Return all that have not been revoked, the oldest first; one that another key has sealed has no scopes."""
        with broker_errors():
            found = self._read_all(self._client.hgetall(keys.API_TOKENS), self._read_used())
        return sorted(found, key=lambda minted: (minted.created_at, minted.token.prefix))

    def revoke(self, name_or_prefix: str) -> Minted:
        """Revoke a token; processes that have it cached follow within ``FRESH_S``. Raises TokenNotFound."""
        for minted in self.all():
            prefix = minted.token.prefix
            # One that cannot be read has no name.
            if name_or_prefix == prefix or (minted.token.digest and name_or_prefix == minted.token.name):
                with _guarded():
                    # First: a caller must not be told that the token is unknown.
                    self._tombstones.put(prefix)
                with broker_errors():
                    self._client.hdel(keys.API_TOKENS, prefix)
                with _guarded(), broker_errors():
                    self._client.hdel(keys.API_TOKENS_USED, prefix)
                self._cached.pop(prefix, None)
                return minted
        raise TokenNotFound

    def find(self, secret: str) -> ApiToken | None:
        """Return the token with this secret. Raises BrokerUnavailable."""
        parts = _SECRET.fullmatch(secret)
        if parts is None:
            return None
        prefix, rest, tag = parts.groups()
        # The tag shows that a secret was never minted, so a flood of guesses does not reach the broker.
        if prefix not in self._cached and not hmac.compare_digest(self._tag(prefix, rest), tag):
            return None
        token = self.get(prefix)
        if token is None or not hmac.compare_digest(token.digest, self._digest(secret)):
            return None
        return token

    def get(self, prefix: str) -> ApiToken | None:
        """Return the token with this prefix, as it was at most ``FRESH_S`` ago. Raises BrokerUnavailable."""
        asked_at = self._clock()
        cached_at, token = self._cached.get(prefix, (-FRESH_S, None))
        if asked_at - cached_at >= FRESH_S:
            token = self._fetch(prefix)
            if len(self._cached) >= MAX_CACHED:
                self._cached.clear()
                self._noted.clear()
            self._cached[prefix] = asked_at, token
        if token is None or self._is_over(token):
            return None
        return token

    def explain(self, secret: str) -> InvalidToken:
        """Return why a secret that ``find`` has not found may not call. Raises BrokerUnavailable."""
        parts = _SECRET.fullmatch(secret)
        if parts is None:
            return TokenUnknown()
        prefix, rest, tag = parts.groups()
        # Who could not have been given this secret is not told what became of a token.
        if not hmac.compare_digest(self._tag(prefix, rest), tag):
            return TokenUnknown()
        return self.explain_prefix(prefix)

    def explain_prefix(self, prefix: str, subject: str = "this API token") -> InvalidToken:
        """Return why the token with a prefix, which was minted once, may not call. Raises BrokerUnavailable."""
        _, token = self._cached.get(prefix, (0.0, None))
        if token is not None and self._is_over(token):
            return TokenExpired(subject)
        with _guarded():
            if self._tombstones.has(prefix):
                return TokenRevoked(f"{subject} was revoked; ask whoever made it for a new one")
        return TokenUnknown()

    def _is_over(self, token: ApiToken) -> bool:
        return token.expires_at is not None and self._now() >= token.expires_at

    def note_use(self, token: ApiToken) -> None:
        """Write that a token was used, at most once in ``USE_INTERVAL_S``."""
        now = self._now()
        if now - self._noted.get(token.prefix, 0.0) < USE_INTERVAL_S:
            return
        self._noted[token.prefix] = now
        # A request must not fail for it.
        with suppress(BrokerUnavailable), _guarded(), broker_errors():
            self._client.hset(keys.API_TOKENS_USED, token.prefix, int(now))

    def _fetch(self, prefix: str) -> ApiToken | None:
        with broker_errors():
            sealed = self._client.hget(keys.API_TOKENS, prefix)
        if sealed is None:
            return None
        minted = self._unseal(prefix, sealed)
        if minted is None:
            return None
        return minted.token

    def _read_all(self, found: dict[bytes, bytes], used: dict[bytes, bytes] | None = None) -> list[Minted]:
        """Return the tokens; one that cannot be read has no scopes, and a field that is no text is left out."""
        entries = []
        for field, sealed in found.items():
            with _guarded():
                prefix = field.decode()
                minted = self._unseal(prefix, sealed)
                if minted is None:
                    minted = Minted(ApiToken("?", b"", frozenset(), prefix=prefix), 0)
                if used and field in used:
                    minted = replace(minted, last_used_at=_parse_seconds(used[field]))
                entries.append(minted)
        return entries

    def _read_used(self) -> dict[bytes, bytes]:
        """Return when tokens were last used; nothing if another program has written over that."""
        with _guarded(), broker_errors():
            return self._client.hgetall(keys.API_TOKENS_USED)
        return {}

    def _check_key(self, found: dict[bytes, bytes]) -> None:
        """Raise SettingsError if other tokens exist, and all of them were sealed with another key.

        What has not the form of a token does not count: another program may have written it.
        """
        foreign = False
        for field, sealed in found.items():
            prefix = field.decode(errors="replace")
            if self._unseal(prefix, sealed) is not None:
                return
            foreign = foreign or (_PREFIX.fullmatch(prefix) is not None and _SEALED.match(sealed) is not None)
        if foreign:
            raise SettingsError("GRAYCAT_TOKEN_KEY is not the key of the API tokens that exist; revoke those")

    def _seal(self, minted: Minted) -> bytes:
        text = json.dumps(minted.to_dict() | {"digest": minted.token.digest.hex()})
        return (self._key.mac("record", text).hex() + text).encode()

    def _unseal(self, prefix: str, sealed: bytes) -> Minted | None:
        """Return the token in a record; None if its seal was made with another key, or for another token."""
        text = sealed.decode(errors="replace")
        seal, text = text[:_SEAL_CHARS], text[_SEAL_CHARS:]
        if not hmac.compare_digest(self._key.mac("record", text).hex().encode(), seal.encode()):
            return None
        # A newer release may seal what this one does not know.
        with _guarded():
            record = json.loads(text)
            if record["prefix"] != prefix:
                return None
            scopes, limits = frozenset(record["scopes"]), Limits(**record["limits"])
            digest = bytes.fromhex(record["digest"])
            token = ApiToken(record["name"], digest, scopes, limits, record["expires_at"], prefix)
            return Minted(token, record["created_at"])
        return None

    def _digest(self, secret: str) -> bytes:
        return self._key.mac("secret", secret)

    def _tag(self, prefix: str, rest: str) -> str:
        return urlsafe_b64encode(self._key.mac("tag", prefix + rest)[:6]).decode()


def is_prefix(text: str) -> bool:
    """Return whether a text has the form of a minted token's prefix."""
    return _PREFIX.fullmatch(text) is not None


def _guarded() -> AbstractContextManager[None]:
    """Run a block for one token; what another program has written there hides no other token."""
    return guarded("api tokens", let_through=(BrokerUnavailable,))


def _parse_seconds(text: bytes) -> int | None:
    """Return a time of the epoch; None if it is none."""
    with _guarded():
        if not _SECONDS.fullmatch(text):
            raise ValueError("no time")
        return int(text)
    return None
