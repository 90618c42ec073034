from __future__ import annotations

import pytest

from graycat.auth.limits import Limits
from graycat.auth.sealed import Minted, Sealer
from graycat.auth.signing import SigningKey
from graycat.auth.tokens import ApiToken

MINTED = Minted(
    ApiToken("game", b"new", frozenset({"llm"}), Limits(rate=1), 90, "gc_12345678", None, b"old", 50), created_at=10
)


@pytest.fixture
def sealer() -> Sealer:
    return Sealer(SigningKey("a key of the tests"))


def test_a_record_is_read_as_it_was_written(sealer: Sealer) -> None:
    assert sealer.unseal("gc_12345678", sealer.seal(MINTED)) == MINTED


def test_a_view_has_no_secret(sealer: Sealer) -> None:
    assert {b"new".hex(), b"old".hex()}.isdisjoint(map(str, MINTED.to_dict().values()))


def test_another_key_or_another_prefix_opens_nothing(sealer: Sealer) -> None:
    sealed = sealer.seal(MINTED)
    assert sealer.unseal("gc_87654321", sealed) is None
    assert sealer.unseal("gc_12345678", sealed.replace(b'"llm"', b'"sd"')) is None
    assert Sealer(SigningKey("another key")).unseal("gc_12345678", sealed) is None
