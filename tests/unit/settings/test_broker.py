from __future__ import annotations

import ssl
from typing import Any

import pytest
import redis

from graycat.broker.client import connect
from graycat.celeryapp import create_celery
from graycat.settings import Settings
from graycat.settings.broker import add_tls_options, host_url, uses_tls


def test_a_password_of_any_letters_gets_through() -> None:
    parts = redis.connection.parse_url(host_url("box", "p@ss/w:rd ?"))
    assert (parts["host"], parts["port"], parts["password"]) == ("box", 6379, "p@ss/w:rd ?")


def test_who_signs_a_certificate_is_part_of_the_address() -> None:
    for url in ("rediss://u:pw@box:1/2", "rediss://u:pw@box:1/2?ssl_check_hostname=false"):
        parts = redis.connection.parse_url(add_tls_options(url, "/etc/my ca.pem"))
        assert (parts["ssl_ca_certs"], parts["ssl_cert_reqs"]) == ("/etc/my ca.pem", "required")
        assert (parts["db"], parts["password"]) == (2, "pw")
    assert add_tls_options("redis://box", "") == "redis://box"


@pytest.mark.parametrize(("query", "wanted"), [("", ssl.CERT_REQUIRED), ("?ssl_cert_reqs=none", ssl.CERT_NONE)])
def test_celery_and_the_stores_look_at_the_certificate_alike(query: str, wanted: ssl.VerifyMode) -> None:
    settings = Settings(redis_url=f"rediss://box/0{query}")
    with create_celery(settings).connection_for_write() as celery_connection:
        ssl_options: Any = celery_connection.ssl
        assert ssl_options["ssl_cert_reqs"] == wanted
    pool = connect(settings).connection_pool
    connection: Any = pool.make_connection()
    assert connection.cert_reqs == wanted


def test_only_one_scheme_is_encrypted() -> None:
    assert [uses_tls(url) for url in ("rediss://box", "redis://box", "unix:///s")] == [True, False, False]
