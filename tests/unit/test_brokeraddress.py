from __future__ import annotations

import redis

from graycat.brokeraddress import on_host, over_tls, with_ca


def test_a_password_of_any_letters_gets_through() -> None:
    parts = redis.connection.parse_url(on_host("box", "p@ss/w:rd ?"))
    assert (parts["host"], parts["port"], parts["password"]) == ("box", 6379, "p@ss/w:rd ?")


def test_a_ca_is_one_more_part_of_the_address() -> None:
    for url in ("rediss://u:pw@box:1/2", "rediss://u:pw@box:1/2?ssl_check_hostname=false"):
        parts = redis.connection.parse_url(with_ca(url, "/etc/my ca.pem"))
        assert (parts["ssl_ca_certs"], parts["db"], parts["password"]) == ("/etc/my ca.pem", 2, "pw")
    assert with_ca("rediss://box", "") == "rediss://box"


def test_only_one_scheme_is_encrypted() -> None:
    assert [over_tls(url) for url in ("rediss://box", "redis://box", "unix:///s")] == [True, False, False]
