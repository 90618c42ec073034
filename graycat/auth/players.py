"""Players' API tokens: short-lived, made by a game's server with its own API token, and stored nowhere.

A player's token contains what it may do, signed: ``gp_CLAIMS.SIGNATURE``.
"""

from __future__ import annotations

import hmac
import json
import re
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from graycat import params
from graycat.auth.limits import Limits
from graycat.auth.signing import SigningKey
from graycat.auth.tokens import ADMIN, ENGINE_SCOPES, INSPECT, METRICS, PLAYER_MARK, ApiToken, read_scopes
from graycat.errors import Forbidden, RequestError

MARK = "gp_"
#: Seconds for which a token is valid: at least, by default, at most.
MIN_TTL_S, DEFAULT_TTL_S, MAX_TTL_S = 60, 900, 3600
#: The scopes of a player for which none are given, as far as the game has them.
PLAYERS_SCOPES = frozenset(ENGINE_SCOPES)

#: graycat makes no longer tokens.
_MAX_CHARS = 2000
#: Printable, without blanks and colons, because it is in logs and keys.
_PLAYER = re.compile(r"[!-9;-~]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Claims:
    """The contents of a player's token. ``parent`` is the reference of the API token with which it was made."""

    parent: str
    owner: str
    scopes: frozenset[str]
    limits: Limits
    expires_at: int

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON for the caller that made it."""
        scopes, limits = sorted(self.scopes), self.limits.to_dict()
        return {"owner": self.owner, "scopes": scopes, "limits": limits, "expires_at": self.expires_at}


class PlayerTokens:
    """Makes players' tokens and reads them; needs no broker."""

    def __init__(self, key: SigningKey, now: Callable[[], float] = time.time) -> None:
        self._key = key
        self._now = now

    def mint(self, parent: ApiToken, reference: str, body: dict[str, Any]) -> tuple[str, Claims]:
        """Return a token as a JSON object describes it; it may do no more than its parent.

        Raises RequestError, Forbidden.
        """
        params.refuse_unknown(body, ("player", "ttl_s", "scopes", "limits"))
        player, ttl_s = body.get("player"), body.get("ttl_s", DEFAULT_TTL_S)
        if not isinstance(player, str) or not _PLAYER.fullmatch(player):
            raise RequestError("'player' is required: 1 to 64 printable ASCII characters, no blanks and colons")
        if isinstance(ttl_s, bool) or not isinstance(ttl_s, int) or not MIN_TTL_S <= ttl_s <= MAX_TTL_S:
            raise RequestError(f"'ttl_s' must be a number of seconds, {MIN_TTL_S} to {MAX_TTL_S}")
        limits = Limits.read(body.get("limits"))
        limits.check_within(parent.limits)
        expires_at = int(min(self._now() + ttl_s, parent.expires_at or float("inf")))
        owner = parent.name + PLAYER_MARK + player
        claims = Claims(reference, owner, _choose_scopes(parent, body.get("scopes")), limits, expires_at)
        return self._signed(claims), claims

    def read(self, secret: str) -> Claims | None:
        """Return the contents of a token; None if it was not signed here, or has expired."""
        claims = self.read_signed(secret)
        if claims is None or self._now() >= claims.expires_at:
            return None
        return claims

    def read_signed(self, secret: str) -> Claims | None:
        """Return the contents of a token, also of one that has expired; None if it was not signed here."""
        if not secret.startswith(MARK) or len(secret) > _MAX_CHARS:
            return None
        text, _, signature = secret.removeprefix(MARK).rpartition(".")
        if not hmac.compare_digest(self._signature(text).encode(), signature.encode()):
            return None
        parent, owner, scopes, limits, expires_at = json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        return Claims(parent, owner, frozenset(scopes), Limits(**limits), expires_at)

    def _signed(self, claims: Claims) -> str:
        shown = claims.to_dict()
        values = [claims.parent, shown["owner"], shown["scopes"], shown["limits"], shown["expires_at"]]
        text = urlsafe_b64encode(json.dumps(values, separators=(",", ":")).encode()).decode().rstrip("=")
        return f"{MARK}{text}.{self._signature(text)}"

    def _signature(self, text: str) -> str:
        return urlsafe_b64encode(self._key.mac("player", text)).decode().rstrip("=")


def _choose_scopes(parent: ApiToken, wanted: Any) -> frozenset[str]:
    """Return a player's scopes. Raises RequestError; Forbidden for one that its parent lacks or no player may have."""
    if parent.parent is not None:
        raise Forbidden("a player's API token makes no others")
    allowed = parent.scopes - {ADMIN, METRICS, INSPECT}
    if wanted is None:
        scopes = allowed & PLAYERS_SCOPES
    else:
        scopes = read_scopes(wanted)
    for scope in sorted(scopes - allowed):
        raise Forbidden(f"this API token cannot give the scope {scope!r} to a player")
    if not scopes:
        raise Forbidden("a player's API token needs the scope 'llm' or 'sd', and this one has neither to give")
    return scopes
