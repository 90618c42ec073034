"""The authenticator: one look-up for all kinds of API tokens."""

from __future__ import annotations

import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Any

from graycat.auth.errors import InvalidToken, TokenExpired, TokenNameTaken, TokenRevoked
from graycat.auth.minted import Grant, MintedTokens, is_prefix
from graycat.auth.players import Claims, PlayerTokens
from graycat.auth.sealed import Minted
from graycat.auth.signing import SigningKey
from graycat.auth.tokens import ApiToken, ApiTokens
from graycat.broker.protocol import Broker
from graycat.settings import Settings

#: How a player is told what became of the token with which its own was made.
PARENT = "the API token with which this player's token was made"


class Authenticator:
    """The configured, the minted and the players' API tokens."""

    def __init__(self, configured: ApiTokens, minted: MintedTokens, players: PlayerTokens, key: SigningKey) -> None:
        self.minted = minted
        self._configured = configured
        self._players = players
        self._key = key
        self._references: dict[str, ApiToken] = {}
        for token in configured:
            self._references[self._reference(token)] = token

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        client: Broker,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> Authenticator:
        """Return the authenticator of this installation; it does not ask the broker yet."""
        key = SigningKey.from_settings(settings)
        minted = MintedTokens(client, key, now, clock)
        return cls(ApiTokens.from_settings(settings), minted, PlayerTokens(key, now), key)

    def find(self, secret: str) -> ApiToken | None:
        """Return the API token with this secret. Raises BrokerUnavailable, but never for a configured token."""
        token = self._configured.find(secret) or self.minted.find(secret) or self._player(secret)
        if token is not None:
            origin = token.parent or token
            if origin.prefix:
                self.minted.note_use(origin)
        return token

    def explain(self, secret: str) -> InvalidToken:
        """Return why a secret that ``find`` has not found may not call. Raises BrokerUnavailable."""
        claims = self._players.read_signed(secret)
        if claims is None:
            return self.minted.explain(secret)
        if self._players.read(secret) is None:
            return TokenExpired("this player's API token")
        if is_prefix(claims.parent):
            return self.minted.explain_prefix(claims.parent, PARENT)
        return TokenRevoked(f"{PARENT} is not configured any more; get a new one")

    def mint(self, grant: Grant) -> tuple[str, Minted]:
        """Make an API token; return its secret. Raises TokenNameTaken, BrokerUnavailable, SettingsError."""
        if any(token.name == grant.name for token in self._configured):
            raise TokenNameTaken(f"API_TOKENS has the name {grant.name!r} already: the two would share their tasks")
        return self.minted.mint(grant)

    def mint_player(self, parent: ApiToken, body: dict[str, Any]) -> tuple[str, Claims]:
        """Make a player's API token; return its secret. Raises RequestError, Forbidden."""
        return self._players.mint(parent, self._reference(parent), body)

    def _player(self, secret: str) -> ApiToken | None:
        claims = self._players.read(secret)
        if claims is None:
            return None
        # It ends with the token with which it was made.
        parent = self._references.get(claims.parent) or self.minted.get(claims.parent)
        if parent is None:
            return None
        scopes = claims.scopes & parent.scopes
        return ApiToken(claims.owner, b"", scopes, claims.limits, claims.expires_at, parent=parent)

    def _reference(self, token: ApiToken) -> str:
        """Return the name of a parent in players' tokens: it changes with the parent's name and with its secret."""
        if token.prefix:
            return token.prefix
        return urlsafe_b64encode(self._key.mac("configured", f"{token.name}\0{token.digest.hex()}")[:12]).decode()
