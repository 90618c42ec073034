from __future__ import annotations

import json

import pytest
from kombu.utils.json import dumps

from graycat.errors import SettingsError
from graycat.settings import Settings
from graycat.settings.sentinel import SentinelAddress, parse


def test_an_address_names_sentinels_a_master_a_login_and_a_database() -> None:
    found = parse("sentinel://box7:p%40ss@one:1,two,[::1]:3/my%2Fmaster/2", username="s", password="theirs")
    assert found == SentinelAddress(
        sentinels=(("one", 1), ("two", 26379), ("::1", 3)),
        master="my/master",
        db=2,
        username="box7",
        password="p@ss",
        sentinel_username="s",
        sentinel_password="theirs",
    )
    assert found.tls_options == {}
    assert found.urls[2] == "sentinel://box7:p%40ss@[::1]:3/2"


def test_the_least_that_an_address_says() -> None:
    found = parse("sentinel://one/main")
    assert (found.sentinels, found.master, found.db, found.password) == ((("one", 26379),), "main", 0, "")
    assert found.urls == ["sentinel://one:26379/0"]


def test_over_tls_certificates_are_always_verified() -> None:
    assert parse("sentinels://one/main").tls_options == {"ssl_cert_reqs": "required"}
    assert parse("sentinels://one/main", ca_file="/ca.pem").tls_options["ssl_ca_certs"] == "/ca.pem"


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("sentinel://:secret@one,two", "lacks the master's name"),
        ("sentinel://:secret@one,two/", "lacks the master's name"),
        ("sentinel://:secret@/main", "lacks the host"),
        ("sentinel://:secret@one,,two/main", "lacks the host"),
        ("sentinel://:secret@one:port/main", "has a port that is none"),
        ("sentinel://:secret@one:99999/main", "has a port that is none"),
        ("sentinel://:secret@one/main/zero", "number of a database"),
        ("sentinel://:secret@one/main?db=1", "takes no options"),
    ],
)
def test_a_malformed_address_is_told_its_form_and_shows_no_password(url: str, complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint) as caught:
        Settings(redis_url=url)
    assert "sentinel://[USER:PASSWORD@]HOST:26379" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_passwords_are_shown_nowhere() -> None:
    settings = Settings(redis_url="sentinel://:secret@one/main", sentinel_password="theirs")
    address = settings.sentinel
    assert address is not None
    # Celery sends the options of its broker to whoever asks for a worker's statistics.
    told = json.loads(dumps({"sentinel": address}))
    assert told == {"sentinel": "main of one:26379"}
    for text in (repr(address), repr(settings), str(address)):
        assert "secret" not in text
        assert "theirs" not in text
    assert {"secret", "theirs"} <= set(settings.secrets)


def test_any_other_address_has_no_sentinels() -> None:
    for url in ("", "redis://box/0", "unix:///tmp/socket"):
        assert Settings(redis_url=url).sentinel is None
