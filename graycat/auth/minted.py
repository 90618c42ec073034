"""Minted API tokens: made by an operator or an admin, stored in the broker, their secret shown once.

A secret is ``gc_PREFIX_REST``. The prefix is public and identifies the token. The broker has a keyed hash of the whole
secret, with the token's scopes and limits under a seal (a keyed hash, too). So access to the broker is not enough to
call with a token, or to give it more scopes.
"""

from __future__ import annotations

import hmac
import math
import re
import secrets
import string
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha1
from pathlib import Path
from typing import Any

from graycat import params
from graycat.auth.errors import (
    InvalidToken,
    RotationUnderWay,
    TokenExpired,
    TokenNameTaken,
    TokenNotFound,
    TokenRevoked,
    TokenUnknown,
)
from graycat.auth.limits import UNLIMITED, Limits
from graycat.auth.sealed import PREFIX, Minted, Sealer, guarded_token
from graycat.auth.signing import SigningKey
from graycat.auth.tokens import SCOPES, USUAL_SCOPES, ApiToken, read_scopes
from graycat.auth.tombstones import Tombstones
from graycat.broker import keys
from graycat.broker.client import broker_errors
from graycat.broker.protocol import Broker
from graycat.broker.scripts import Scripts
from graycat.errors import BrokerUnavailable, RequestError

#: Seconds for which a process caches a token; a revoked one may still call for so long.
FRESH_S = 2.0
#: The last use of a token is written at most once in this many seconds.
USE_INTERVAL_S = 60.0
#: Tokens in the cache of a process; only tokens that were minted once get there.
MAX_CACHED = 10_000
#: Seconds: ten years.
MAX_TTL_S = 10 * 365 * 86400
#: Seconds for which two secrets of a token may be accepted: thirty days.
MAX_OVERLAP_S = 30 * 86400
#: So long they are, if nobody says otherwise.
DEFAULT_OVERLAP_S = 86400
#: How often a token is written anew that others have changed meanwhile.
MAX_TRIES = 20

_PUBLIC = string.ascii_lowercase + string.digits
_SECRET = re.compile(r"(gc_[a-z0-9]{8})_([A-Za-z0-9_-]{43})([A-Za-z0-9_-]{8})", re.ASCII)
#: Without the mark of players' tokens, and not like a prefix.
_NAME = re.compile(r"(?!g[cp]_)[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)


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
        self._sealer = Sealer(key)
        self._scripts = Scripts(client, Path(__file__).parent / "lua", ("put_token",))
        self._now = now
        self._clock = clock
        self._tombstones = Tombstones(client, now, clock)
        #: By prefix: when a token was read (``clock``), and the token.
        self._cached: dict[str, tuple[float, ApiToken | None]] = {}
        #: By secret (hashed): when its token was read and had another one.
        self._refused: dict[bytes, float] = {}
        #: By prefix: when its use was written last (``now``).
        self._noted: dict[str, float] = {}

    def mint(self, grant: Grant) -> tuple[str, Minted]:
        """Make a token; return its secret, which is stored nowhere. Raises TokenNameTaken, BrokerUnavailable.

        Raises SettingsError if the existing tokens were minted with another key: web processes would not accept this
        one.
        """
        prefix = "gc_" + "".join(secrets.choice(_PUBLIC) for _ in range(8))
        secret = self._make_secret(prefix)
        created_at = int(self._now())
        expires_at = None
        if grant.ttl_s is not None:
            expires_at = created_at + grant.ttl_s
        token = ApiToken(grant.name, self._digest(secret), grant.scopes, grant.limits, expires_at, prefix)
        minted = Minted(token, created_at)

        def choose(found: dict[bytes, bytes]) -> Minted:
            self._sealer.check_key(found)
            for other in self._sealer.read_all(found):
                if other.token.prefix == prefix or (other.token.digest and other.token.name == grant.name):
                    raise TokenNameTaken(f"{other.token.prefix} has the name {grant.name!r}; revoke that first")
            return minted

        return secret, self._put(choose)

    def rotate(self, name_or_prefix: str, overlap_s: int) -> tuple[str, Minted]:
        """Give a token another secret and return that; the one that it had is accepted for ``overlap_s`` more.

        Prefix, name, limits and lifetime stay, and so its tasks and its players' tokens. Without an overlap every other
        secret is refused from now on. Raises TokenNotFound, RotationUnderWay, RequestError, BrokerUnavailable.
        """
        if not 0 <= overlap_s <= MAX_OVERLAP_S:
            raise RequestError(f"'overlap_s' must be a number of seconds, 0 to {MAX_OVERLAP_S}")
        secret = ""

        def choose(found: dict[bytes, bytes]) -> Minted:
            nonlocal secret
            minted = _select(self._sealer.read_all(found), name_or_prefix)
            token, now = minted.token, math.ceil(self._now())
            if not token.digest or self._is_over(token):
                raise RequestError("this API token cannot be used any more; mint another")
            if overlap_s and token.former_until is not None and now < token.former_until:
                raise RotationUnderWay(token.former_until - now)
            secret = self._make_secret(token.prefix)
            former, former_until = b"", None
            if overlap_s:
                former, former_until = token.digest, now + overlap_s
            changed = replace(token, digest=self._digest(secret), former_digest=former, former_until=former_until)
            return replace(minted, token=changed)

        minted = self._put(choose)
        self._cached.pop(minted.token.prefix, None)
        return secret, minted

    def _put(self, choose: Callable[[dict[bytes, bytes]], Minted]) -> Minted:
        """Write the token that ``choose`` makes of all records, which nobody changes meanwhile; return it.

        If this raises BrokerUnavailable, nothing was written, nor will be when the broker goes on.
        """
        for _ in range(MAX_TRIES):
            with broker_errors():
                found = self._client.hgetall(keys.API_TOKENS)
            minted = choose(found)
            seen = sha1(usedforsecurity=False)
            for entry in found.items():
                seen.update(b"%b\0%b\0" % entry)
            token = minted.token
            arguments = (seen.hexdigest(), token.prefix, self._sealer.seal(minted), token.name, token.expires_at or "")
            with broker_errors():
                if self._scripts.run("put_token", (keys.API_TOKENS, keys.TOKEN_ENDS), arguments):
                    return minted
        raise BrokerUnavailable

    def _make_secret(self, prefix: str) -> str:
        rest = secrets.token_urlsafe(32)
        return f"{prefix}_{rest}{self._tag(prefix, rest)}"

    def all(self) -> list[Minted]:
        """Return all that have not been revoked, the oldest first; one that another key has sealed has no scopes."""
        with broker_errors():
            found = self._sealer.read_all(self._client.hgetall(keys.API_TOKENS), self._read_used())
        return sorted(found, key=lambda minted: (minted.created_at, minted.token.prefix))

    def revoke(self, name_or_prefix: str) -> Minted:
        """Revoke a token; processes that have it cached follow within ``FRESH_S``. Raises TokenNotFound."""
        minted = _select(self.all(), name_or_prefix)
        token, now = minted.token, self._now()
        # All or nothing: a caller must not be told that the token is unknown, and its tasks must not go on.
        with broker_errors(), self._client.pipeline() as pipe:
            pipe.hdel(keys.API_TOKENS, token.prefix)
            self._tombstones.put(pipe, token.prefix)
            if token.digest:
                pipe.zadd(keys.TOKEN_ENDS, {token.name: now})
            pipe.hdel(keys.API_TOKENS_USED, token.prefix)
            removed, *_ = pipe.execute(raise_on_error=False)
        # What another program has written over the other keys keeps no token alive.
        if isinstance(removed, Exception):
            raise removed
        self._cached.pop(token.prefix, None)
        return minted

    def note_ends(self) -> None:
        """Write when each token expires, if that is not written: earlier releases did not. Raises BrokerUnavailable."""
        ends = {}
        for minted in self.all():
            if minted.token.digest and minted.token.expires_at is not None:
                ends[minted.token.name] = minted.token.expires_at
        if ends:
            with broker_errors():
                self._client.zadd(keys.TOKEN_ENDS, ends, nx=True)

    def find(self, secret: str) -> ApiToken | None:
        """Return the token with this secret. Raises BrokerUnavailable."""
        parts = _SECRET.fullmatch(secret)
        if parts is None:
            return None
        prefix, rest, tag = parts.groups()
        # The tag shows that a secret was never minted, so a flood of guesses does not reach the broker.
        if prefix not in self._cached and not self._is_tagged(prefix, rest, tag):
            return None
        token, digest = self.get(prefix), self._digest(secret)
        if token is None or self._is_secret_of(token, digest):
            return token
        if not self._is_tagged(prefix, rest, tag):
            return None
        return self._look_again(prefix, digest)

    def _look_again(self, prefix: str, digest: bytes) -> ApiToken | None:
        """Return the token if it was rotated since it was read, and this is its new secret, which works at once."""
        now = self._clock()
        if now - self._refused.get(digest, -FRESH_S) < FRESH_S:
            return None
        self._cached.pop(prefix, None)
        token = self.get(prefix)
        if token is not None and self._is_secret_of(token, digest):
            return token
        if len(self._refused) >= MAX_CACHED:
            self._refused.clear()
        self._refused[digest] = now
        return None

    def _is_secret_of(self, token: ApiToken, digest: bytes) -> bool:
        """Return whether a token may be used with the secret that has this digest."""
        if hmac.compare_digest(token.digest, digest):
            return True
        if token.former_until is None or self._now() >= token.former_until:
            return False
        return hmac.compare_digest(token.former_digest, digest)

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
        if not self._is_tagged(prefix, rest, tag):
            return TokenUnknown()
        if self.get(prefix) is not None:
            return TokenRevoked("this secret of the API token was replaced by a newer one; use that")
        return self.explain_prefix(prefix)

    def explain_prefix(self, prefix: str, subject: str = "this API token") -> InvalidToken:
        """Return why the token with a prefix, which was minted once, may not call. Raises BrokerUnavailable."""
        _, token = self._cached.get(prefix, (0.0, None))
        if token is not None and self._is_over(token):
            return TokenExpired(subject)
        with guarded_token():
            if self._tombstones.has(prefix):
                return TokenRevoked(f"{subject} was revoked; ask whoever made it for a new one")
        return TokenUnknown()

    def _is_over(self, token: ApiToken) -> bool:
        return token.expires_at is not None and self._now() >= token.expires_at

    def find_ended(self, tokens: Mapping[str, ApiToken]) -> dict[str, InvalidToken]:
        """Return which of some tokens (by prefix) were revoked or have expired by now, and what to tell their callers.

        Asks the broker once, whatever this process remembers; without tokens never. Raises BrokerUnavailable.
        """
        ended: dict[str, InvalidToken] = {}
        for prefix, token in tokens.items():
            if self._is_over(token):
                ended[prefix] = TokenExpired()
        for prefix in self._tombstones.among(tuple(tokens)):
            ended[prefix] = TokenRevoked("this API token was revoked while the request was under way")
        return ended

    def note_use(self, token: ApiToken) -> None:
        """Write that a token was used, at most once in ``USE_INTERVAL_S``."""
        now = self._now()
        if now - self._noted.get(token.prefix, 0.0) < USE_INTERVAL_S:
            return
        self._noted[token.prefix] = now
        # A request must not fail for it.
        with suppress(BrokerUnavailable), guarded_token(), broker_errors():
            self._client.hset(keys.API_TOKENS_USED, token.prefix, int(now))

    def _fetch(self, prefix: str) -> ApiToken | None:
        with broker_errors():
            sealed = self._client.hget(keys.API_TOKENS, prefix)
        if sealed is None:
            return None
        minted = self._sealer.unseal(prefix, sealed)
        if minted is None:
            return None
        return minted.token

    def _read_used(self) -> dict[bytes, bytes]:
        """Return when tokens were last used; nothing if another program has written over that."""
        with guarded_token(), broker_errors():
            return self._client.hgetall(keys.API_TOKENS_USED)
        return {}

    def _digest(self, secret: str) -> bytes:
        return self._key.mac("secret", secret)

    def _is_tagged(self, prefix: str, rest: str, tag: str) -> bool:
        """Return whether a secret was made here, whatever became of it."""
        return hmac.compare_digest(self._tag(prefix, rest), tag)

    def _tag(self, prefix: str, rest: str) -> str:
        return urlsafe_b64encode(self._key.mac("tag", prefix + rest)[:6]).decode()


def _select(entries: Iterable[Minted], name_or_prefix: str) -> Minted:
    """Return the token with a name or prefix. Raises TokenNotFound."""
    for minted in entries:
        # One that cannot be read has no name.
        if name_or_prefix == minted.token.prefix or (minted.token.digest and name_or_prefix == minted.token.name):
            return minted
    raise TokenNotFound


def is_prefix(text: str) -> bool:
    """Return whether a text has the form of a minted token's prefix."""
    return PREFIX.fullmatch(text) is not None
