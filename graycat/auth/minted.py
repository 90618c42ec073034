"""Minted API tokens: made by an operator or an admin, kept in the broker, shown once.

A secret is ``gc_PREFIX_REST``. The prefix is public and says which token it is. The broker holds a keyed hash of the
whole, with the token's scopes and limits under a seal of the same key: who can read the broker cannot call, and who can
write it cannot give a token more.
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
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from graycat import params
from graycat.auth.errors import TokenNameTaken, TokenNotFound
from graycat.auth.limits import UNLIMITED, Limits
from graycat.auth.signing import SigningKey
from graycat.auth.tokens import SCOPES, USUAL_SCOPES, ApiToken, read_scopes
from graycat.broker import keys
from graycat.broker.client import broker_errors
from graycat.broker.protocol import Broker
from graycat.errors import BrokerUnavailable, RequestError, SettingsError

#: What is known of a token is good for this many seconds: so long a revoked one may still call.
FRESH_S = 2.0
#: The last use is written down once in this many seconds.
USE_EVERY_S = 60.0
#: Tokens that a process remembers; only those get there that were once minted.
MOST_REMEMBERED = 10_000
#: Seconds: ten years.
LONGEST_TTL_S = 10 * 365 * 86400

_PUBLIC = string.ascii_lowercase + string.digits
_SECRET = re.compile(r"(gc_[a-z0-9]{8})_([A-Za-z0-9_-]{43})([A-Za-z0-9_-]{8})", re.ASCII)
#: Without the mark of players, and unlike a prefix.
_NAME = re.compile(r"(?!g[cp]_)[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_SEAL_CHARS = 64


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token is to be: who calls with it, for what, how much, and for how long."""

    name: str
    scopes: frozenset[str] = USUAL_SCOPES
    limits: Limits = UNLIMITED
    ttl_s: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise RequestError("'name' must be 1 to 64 letters, digits, '.', '_' or '-', and not begin like a token")
        if not self.scopes:
            raise RequestError(f"'scopes' must name some of {', '.join(SCOPES)}")
        if self.ttl_s is not None and not 1 <= self.ttl_s <= LONGEST_TTL_S:
            raise RequestError(f"'ttl_s' must be a number of seconds, 1 to {LONGEST_TTL_S}")

    @classmethod
    def read(cls, body: dict[str, Any]) -> Grant:
        """Return the grant that a JSON object describes. Raises RequestError, also for a field that nobody knows."""
        params.refuse_unknown(body, ("name", "scopes", "limits", "ttl_s"))
        ttl_s = body.get("ttl_s")
        if ttl_s is not None and (isinstance(ttl_s, bool) or not isinstance(ttl_s, int)):
            raise RequestError("'ttl_s' must be a number of seconds")
        scopes = USUAL_SCOPES if body.get("scopes") is None else read_scopes(body["scopes"])
        return cls(body.get("name", ""), scopes, Limits.read(body.get("limits")), ttl_s)


@dataclass(frozen=True, slots=True)
class Minted:
    """A minted token as its operator sees it. Times are seconds of the epoch."""

    token: ApiToken
    created_at: int
    last_used_at: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it, without anything secret."""
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
    """The minted tokens in the broker. ``now`` tells the time, ``clock`` how much of it has passed."""

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
        self._remembered: dict[str, tuple[float, ApiToken | None]] = {}
        self._noted: dict[str, float] = {}

    def mint(self, grant: Grant) -> tuple[str, Minted]:
        """Make a token; return its secret, which nobody can tell again. Raises TokenNameTaken, BrokerUnavailable.

        Raises SettingsError where the tokens that exist were minted with another key: this one would not open anything.
        """
        prefix = "gc_" + "".join(secrets.choice(_PUBLIC) for _ in range(8))
        rest = secrets.token_urlsafe(32)
        secret = f"{prefix}_{rest}{self._tag(prefix, rest)}"
        created_at = int(self._now())
        expires_at = created_at + grant.ttl_s if grant.ttl_s is not None else None
        token = ApiToken(grant.name, self._digest(secret), grant.scopes, grant.limits, expires_at, prefix)
        minted = Minted(token, created_at)

        def add(pipe: Any) -> None:
            for other in self._read_all(pipe.hgetall(keys.API_TOKENS)):
                if not other.token.digest:
                    raise SettingsError("GRAYCAT_TOKEN_KEY is not the key of the API tokens that exist; revoke those")
                if other.token.name == grant.name:
                    raise TokenNameTaken(f"{other.token.prefix} has the name {grant.name!r}; revoke that first")
            pipe.multi()
            pipe.hset(keys.API_TOKENS, prefix, self._sealed(minted))

        with broker_errors():
            self._client.transaction(add, keys.API_TOKENS)
        return secret, minted

    def all(self) -> list[Minted]:
        """Return all that have not been revoked, the oldest first; one of another key has no scopes."""
        with broker_errors():
            found = self._read_all(self._client.hgetall(keys.API_TOKENS), self._client.hgetall(keys.API_TOKENS_USED))
        return sorted(found, key=lambda minted: (minted.created_at, minted.token.prefix))

    def revoke(self, name_or_prefix: str) -> Minted:
        """Take a token away; processes that remember it follow within ``FRESH_S``. Raises TokenNotFound."""
        named = (m for m in self.all() if name_or_prefix in (m.token.prefix, m.token.name))
        if (minted := next(named, None)) is None:
            raise TokenNotFound
        prefix = minted.token.prefix
        with broker_errors():
            self._client.hdel(keys.API_TOKENS, prefix)
            self._client.hdel(keys.API_TOKENS_USED, prefix)
        self._remembered.pop(prefix, None)
        return minted

    def find(self, secret: str) -> ApiToken | None:
        """Return the token with this secret. Raises BrokerUnavailable."""
        if not (parts := _SECRET.fullmatch(secret)):
            return None
        prefix, rest, tag = parts.groups()
        # What was never minted is known by its tag: a flood of guesses does not reach the broker.
        if prefix not in self._remembered and not hmac.compare_digest(self._tag(prefix, rest), tag):
            return None
        token = self.get(prefix)
        return token if token is not None and hmac.compare_digest(token.digest, self._digest(secret)) else None

    def get(self, prefix: str) -> ApiToken | None:
        """Return the token with this prefix, as of ``FRESH_S`` ago at most. Raises BrokerUnavailable."""
        found_at, token = self._remembered.get(prefix, (-FRESH_S, None))
        if (asked_at := self._clock()) - found_at >= FRESH_S:
            token = self._fetch(prefix)
            if len(self._remembered) >= MOST_REMEMBERED:
                self._remembered.clear()
                self._noted.clear()
            self._remembered[prefix] = asked_at, token
        return token if token is not None and (token.expires_at is None or self._now() < token.expires_at) else None

    def note_use(self, token: ApiToken) -> None:
        """Write down that a token was used, once in ``USE_EVERY_S``."""
        now = self._now()
        if now - self._noted.get(token.prefix, 0.0) < USE_EVERY_S:
            return
        self._noted[token.prefix] = now
        # Nobody's request shall fail for it.
        with suppress(BrokerUnavailable), broker_errors():
            self._client.hset(keys.API_TOKENS_USED, token.prefix, int(now))

    def _fetch(self, prefix: str) -> ApiToken | None:
        with broker_errors():
            sealed = self._client.hget(keys.API_TOKENS, prefix)
        minted = self._opened(prefix, sealed) if sealed is not None else None
        return minted.token if minted is not None else None

    def _read_all(self, found: dict[bytes, bytes], used: dict[bytes, bytes] | None = None) -> list[Minted]:
        entries = []
        for field, sealed in found.items():
            prefix, last = field.decode(), (used or {}).get(field)
            last_used_at = int(last) if last is not None else None
            unknown = Minted(ApiToken("?", b"", frozenset(), prefix=prefix), 0)
            known = self._opened(prefix, sealed) or unknown
            entries.append(Minted(known.token, known.created_at, last_used_at))
        return entries

    def _sealed(self, minted: Minted) -> bytes:
        text = json.dumps(minted.to_dict() | {"digest": minted.token.digest.hex()})
        return (self._key.mac("record", text).hex() + text).encode()

    def _opened(self, prefix: str, sealed: bytes) -> Minted | None:
        """Return what a record says; None where its seal is not ours, or another token's."""
        text = sealed.decode(errors="replace")
        seal, text = text[:_SEAL_CHARS], text[_SEAL_CHARS:]
        if not hmac.compare_digest(self._key.mac("record", text).hex().encode(), seal.encode()):
            return None
        record = json.loads(text)
        if record["prefix"] != prefix:
            return None
        scopes, limits = frozenset(record["scopes"]), Limits(**record["limits"])
        digest = bytes.fromhex(record["digest"])
        token = ApiToken(record["name"], digest, scopes, limits, record["expires_at"], prefix)
        return Minted(token, record["created_at"])

    def _digest(self, secret: str) -> bytes:
        return self._key.mac("secret", secret)

    def _tag(self, prefix: str, rest: str) -> str:
        return urlsafe_b64encode(self._key.mac("tag", prefix + rest)[:6]).decode()
