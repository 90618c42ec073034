"""The records of minted API tokens, each under a seal: a keyed hash, without which nobody can write one."""

from __future__ import annotations

import hmac
import json
import re
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

from graycat.auth.limits import Limits
from graycat.auth.signing import SigningKey
from graycat.auth.tokens import ApiToken
from graycat.errors import BrokerUnavailable, SettingsError
from graycat.loops.unexpected import guarded

#: The public part of a token, which identifies it.
PREFIX = re.compile(r"gc_[a-z0-9]{8}", re.ASCII)
_SEAL_CHARS = 64
#: The seal and the beginning of a record.
_SEALED = re.compile(rb"[0-9a-f]{64}\{")
#: A time in seconds. Longer numbers are none.
_SECONDS = re.compile(rb"[0-9]{1,11}")


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
            "former_until": token.former_until,
            "last_used_at": self.last_used_at,
        }


class Sealer:
    """Writes and reads the records."""

    def __init__(self, key: SigningKey) -> None:
        self._key = key

    def seal(self, minted: Minted) -> bytes:
        """Return the record of a token."""
        token = minted.token
        digests = {"digest": token.digest.hex(), "former_digest": token.former_digest.hex()}
        text = json.dumps(minted.to_dict() | digests)
        return (self._key.mac("record", text).hex() + text).encode()

    def unseal(self, prefix: str, sealed: bytes) -> Minted | None:
        """Return the token in a record; None if its seal was made with another key, or for another token."""
        text = sealed.decode(errors="replace")
        seal, text = text[:_SEAL_CHARS], text[_SEAL_CHARS:]
        if not hmac.compare_digest(self._key.mac("record", text).hex().encode(), seal.encode()):
            return None
        # A newer release may seal what this one does not know.
        with guarded_token():
            record = json.loads(text)
            if record["prefix"] != prefix:
                return None
            token = ApiToken(
                name=record["name"],
                digest=bytes.fromhex(record["digest"]),
                scopes=frozenset(record["scopes"]),
                limits=Limits(**record["limits"]),
                expires_at=record["expires_at"],
                prefix=prefix,
                # Records of older releases have none.
                former_digest=bytes.fromhex(record.get("former_digest", "")),
                former_until=record.get("former_until"),
            )
            return Minted(token, record["created_at"])
        return None

    def read_all(self, found: dict[bytes, bytes], used: dict[bytes, bytes] | None = None) -> list[Minted]:
        """Return the tokens; one that cannot be read has no scopes, and a field that is no text is left out."""
        entries = []
        for field, sealed in found.items():
            with guarded_token():
                prefix = field.decode()
                minted = self.unseal(prefix, sealed)
                if minted is None:
                    minted = Minted(ApiToken("?", b"", frozenset(), prefix=prefix), 0)
                if used and field in used:
                    minted = replace(minted, last_used_at=_parse_seconds(used[field]))
                entries.append(minted)
        return entries

    def check_key(self, found: dict[bytes, bytes]) -> None:
        """Raise SettingsError if other tokens exist, and all of them were sealed with another key.

        What has not the form of a token does not count: another program may have written it.
        """
        foreign = False
        for field, sealed in found.items():
            prefix = field.decode(errors="replace")
            if self.unseal(prefix, sealed) is not None:
                return
            foreign = foreign or (PREFIX.fullmatch(prefix) is not None and _SEALED.match(sealed) is not None)
        if foreign:
            raise SettingsError("GRAYCAT_TOKEN_KEY is not the key of the API tokens that exist; revoke those")


def guarded_token() -> AbstractContextManager[None]:
    """Run a block for one token; what another program has written there hides no other token."""
    return guarded("api tokens", let_through=(BrokerUnavailable,))


def _parse_seconds(text: bytes) -> int | None:
    """Return a time of the epoch; None if it is none."""
    with guarded_token():
        if not _SECONDS.fullmatch(text):
            raise ValueError("no time")
        return int(text)
    return None
