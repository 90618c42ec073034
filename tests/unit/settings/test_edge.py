from __future__ import annotations

import pytest

from graycat.errors import SettingsError
from graycat.settings import Settings


@pytest.mark.parametrize(
    ("value", "base", "prefix"),
    [
        ("", "", ""),
        ("https://play.example", "https://play.example", ""),
        ("https://play.example/", "https://play.example", ""),
        ("http://10.0.0.7:8080/gpu", "http://10.0.0.7:8080/gpu", "/gpu"),
        ("https://play.example/a/b-2/", "https://play.example/a/b-2", "/a/b-2"),
        ("https://[fd00::1]:8443/gpu", "https://[fd00::1]:8443/gpu", "/gpu"),
    ],
)
def test_a_public_url_is_what_stands_in_front_of_a_path(value: str, base: str, prefix: str) -> None:
    settings = Settings.from_env({"GRAYCAT_PUBLIC_URL": value})
    assert (settings.public_base, settings.public_prefix) == (base, prefix)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("play.example", "must be like https://HOST"),
        ("//play.example", "must be like https://HOST"),
        ("ftp://play.example", "must be like https://HOST"),
        ("https:///gpu", "must be like https://HOST"),
        ("https://play.example:port", "must be like https://HOST"),
        ("https://play.example:99999", "must be like https://HOST"),
        ("https://Play.example", "in lower case"),
        ("https://plaÿ.example", "must be like https://HOST"),
        ("https://play.example/a b", "must be like https://HOST"),
        ("https://me:word@play.example", "must be like https://HOST"),
        ("https://play.example/?a=b", "no query"),
        ("https://play.example/gpu#x", "no fragment"),
        ("https://play.example/a//b", "has '' in its prefix"),
        ("https://play.example/a/../b", "has '..' in its prefix"),
        ("https://play.example/%67pu", "has '%67pu' in its prefix"),
    ],
)
def test_a_public_url_that_no_link_could_begin_with_is_refused(value: str, words: str) -> None:
    with pytest.raises(SettingsError, match="GRAYCAT_PUBLIC_URL") as caught:
        Settings.from_env({"GRAYCAT_PUBLIC_URL": value})
    assert words in str(caught.value)


def test_origins_are_a_list() -> None:
    text = "https://game.example, http://localhost:8080 ,https://[::1]:8443,capacitor://localhost,"
    assert Settings.from_env({"GRAYCAT_CORS_ORIGINS": text}).allowed_origins == (
        "https://game.example",
        "http://localhost:8080",
        "https://[::1]:8443",
        "capacitor://localhost",
    )
    assert Settings().allowed_origins == ()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("*", "is every page"),
        ("null", "is every page"),
        ("https://*.example", "must be origins like"),
        ("game.example", "must be origins like"),
        ("https://Game.example", "in lower case"),
        ("HTTPS://game.example", "in lower case"),
        ("https://game.example https://other.example", "must be origins like"),
        ("https://me@game.example", "must be origins like"),
        ("https://game.example/", "not even a '/'"),
        ("https://game.example/play", "without a path"),
        ("https://game.example?x", "without a path"),
        ("https://game.example:443", "a scheme's own port"),
        ("http://game.example:80", "a scheme's own port"),
        ("https://good.example,http://game.example:0x50", "must be origins like"),
    ],
)
def test_an_origin_that_no_browser_would_send_is_refused(value: str, words: str) -> None:
    with pytest.raises(SettingsError, match="GRAYCAT_CORS_ORIGINS") as caught:
        Settings.from_env({"GRAYCAT_CORS_ORIGINS": value})
    assert words in str(caught.value)


def test_the_port_of_proxies_is_its_own() -> None:
    assert Settings(proxy_protocol_port=8001).proxy_protocol_port == 8001
    with pytest.raises(SettingsError, match="GRAYCAT_PROXY_PROTOCOL_PORT"):
        Settings(proxy_protocol_port=8000)
    with pytest.raises(SettingsError, match="or 0 for none"):
        Settings(proxy_protocol_port=-1)
