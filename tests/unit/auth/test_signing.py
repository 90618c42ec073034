from __future__ import annotations

import hashlib
import hmac
import stat
from pathlib import Path

from graycat.auth.signing import SigningKey, key_file
from graycat.settings import Settings


def test_a_keyed_hash_is_hmac_sha256() -> None:
    assert SigningKey("a key").mac("player", "text") == hmac.new(b"a key", b"player\0text", hashlib.sha256).digest()


def test_what_is_made_for_one_purpose_or_with_another_key_is_worth_nothing() -> None:
    key = SigningKey("a key")
    hashes = [key.mac("player", "text"), key.mac("secret", "text"), SigningKey("other").mac("player", "text")]
    assert len(set(hashes)) == 3


def test_the_configured_key_leaves_no_file(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, token_key="k" * 32)
    assert SigningKey.from_settings(settings).mac("a", "b") == SigningKey("k" * 32).mac("a", "b")
    assert not key_file(settings).exists()


def test_the_generated_key_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    first, second = (SigningKey.from_settings(settings).mac("a", "b") for _ in range(2))
    assert first == second
    assert stat.S_IMODE(key_file(settings).stat().st_mode) == 0o600
    assert len(key_file(settings).read_text().strip()) >= 40
