from __future__ import annotations

from typing import Any

import pytest

from graycat.edge.config import MARGIN_S, MAX_TIMEOUT_S, EdgeOptions, duration, longest_wait_s, make_config
from graycat.errors import SettingsError
from graycat.params import MAX_WAIT_S
from graycat.settings import Settings

ANY = "0.0.0.0"  # noqa: S104 (a setting, bound by nobody)
GOOD: dict[str, Any] = {
    "public_url": "https://play.example/gpu",
    "proxy_protocol_port": 8001,
    "forwarded_from": "127.0.0.1",
}
ELSEWHERE: dict[str, Any] = {"host": ANY, "forwarded_from": "172.31.8.0/24", "trusted_addresses": "172.31.8.0/24"}
PEM: dict[str, Any] = {"certificate": "/etc/edge.pem"}


def test_without_options_the_proxy_is_on_this_machine_and_listens_where_the_address_says() -> None:
    config = make_config("nginx", Settings(**GOOD), EdgeOptions(**PEM))
    assert (config.port, config.names, config.key) == (443, ("play.example",), "/etc/edge.pem")
    assert [(server.http, server.tcp, server.is_name) for server in config.servers] == [
        ("127.0.0.1:8000", "127.0.0.1:8001", False)
    ]
    other = make_config("nginx", Settings(**GOOD | {"public_url": "https://[fd00::1]:8443"}), EdgeOptions(**PEM))
    assert (other.port, other.names) == (8443, ("[fd00::1]",))
    assert make_config("nginx", Settings(**GOOD), EdgeOptions(port=9443, **PEM)).port == 9443


def test_several_servers_elsewhere_are_all_named() -> None:
    config = make_config("haproxy", Settings(**GOOD | ELSEWHERE), EdgeOptions(servers=("web", "fd00::2"), **PEM))
    assert [server.tcp for server in config.servers] == ["web:8001", "[fd00::2]:8001"]
    assert config.has_names
    assert config.max_open_files == 2 * 4 * 4000


@pytest.mark.parametrize(("host", "found"), [(ANY, "127.0.0.1"), ("localhost", "127.0.0.1"), ("::", "::1")])
def test_an_address_of_all_networks_is_called_by_loopback(host: str, found: str) -> None:
    settings = Settings(**GOOD | {"host": host, "forwarded_from": found})
    assert make_config("nginx", settings, EdgeOptions(**PEM)).servers[0].host == found


@pytest.mark.parametrize(
    ("changes", "seconds"),
    [
        ({}, 600 + 900),
        ({"sd_exec_timeout_s": 100.0}, 600 + 100),
        ({"queue_ttl_s": 600.0, "exec_timeout_s": 1800.0}, 2400),
        ({"sd_queue_ttl_s": 1.0, "sd_exec_timeout_s": 1.0, "queue_ttl_s": 1.0, "exec_timeout_s": 1.0}, MAX_WAIT_S),
        ({"exec_timeout_s": 1e9}, MAX_TIMEOUT_S - MARGIN_S),
    ],
)
def test_a_proxy_waits_longer_than_any_answer_takes(changes: dict[str, Any], seconds: float) -> None:
    assert longest_wait_s(Settings(**changes)) == seconds + MARGIN_S


@pytest.mark.parametrize(("seconds", "text"), [(30.0, "30s"), (1, "1s"), (0.2, "200ms"), (1.5, "1500ms")])
def test_times_are_written_as_all_programs_read_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_limits_are_those_of_the_settings() -> None:
    settings = Settings(**GOOD, max_body_bytes=5, max_image_body_bytes=3, max_connections_per_address=7)
    config = make_config("nginx", settings, EdgeOptions(**PEM))
    assert (config.max_body_bytes, config.max_connections_per_address) == (5, 7)


@pytest.mark.parametrize(
    ("program", "changes", "options", "words"),
    [
        ("nginx", {"proxy_protocol_port": 0}, PEM, "set GRAYCAT_PROXY_PROTOCOL_PORT=8001"),
        ("haproxy", {"proxy_protocol_port": 0}, PEM, "set GRAYCAT_PROXY_PROTOCOL_PORT=8001"),
        ("nginx", {"public_url": ""}, PEM, "set GRAYCAT_PUBLIC_URL=https://YOUR.NAME"),
        ("caddy", {"public_url": "http://play.example"}, {}, "set GRAYCAT_PUBLIC_URL=https://YOUR.NAME"),
        ("nginx", {"forwarded_from": ""}, PEM, "GRAYCAT_FORWARDED_FROM must have 127.0.0.1"),
        ("caddy", {"forwarded_from": "10.0.0.0/8"}, {}, "GRAYCAT_FORWARDED_FROM must have 127.0.0.1"),
        ("nginx", {"trusted_addresses": "::1"}, PEM, "GRAYCAT_TRUSTED_ADDRESSES must have 127.0.0.1"),
        ("nginx", {}, PEM | {"servers": ("web",)}, "HOST=127.0.0.1 takes connections of this machine only"),
        ("nginx", {"host": "10.0.0.5"}, PEM, "GRAYCAT_FORWARDED_FROM must have the proxy's address"),
        (
            "haproxy",
            {"host": ANY, "forwarded_from": "10.0.0.1"},
            PEM | {"servers": ("web",)},
            "GRAYCAT_TRUSTED_ADDRESSES must have the proxy's address",
        ),
        ("nginx", {"remote": True, "redis_url": "redis://a"}, PEM, "no web server runs on this machine"),
        ("nginx", {}, {}, "nginx needs --certificate"),
        ("haproxy", {}, {}, "haproxy needs --certificate"),
        ("haproxy", {}, PEM | {"key": "/k"}, "cat fullchain.pem privkey.pem > FILE"),
        ("caddy", {}, {"key": "/k"}, "--key needs --certificate"),
        ("nginx", {}, PEM | {"names": ("other.example",)}, "--name is for caddy"),
        ("nginx", {}, {"certificate": "/a b"}, "a path may have letters"),
        ("nginx", {}, PEM | {"key": "/a;b"}, "a path may have letters"),
        ("nginx", {}, PEM | {"access_log": "/a$b"}, "a path may have letters"),
        ("caddy", {}, {"names": ("a{b",)}, "is no name and no IP address"),
        ("nginx", {}, PEM | {"servers": ("web; evil",)}, "is no name and no IP address"),
        ("nginx", ELSEWHERE, PEM | {"servers": ("fe80::1%x;y",)}, "is no name and no IP address"),
        ("nginx", ELSEWHERE, PEM | {"servers": ("[10.0.0.3",)}, "is no name and no IP address"),
        ("nginx", ELSEWHERE, PEM | {"servers": ("10.0.0.3]",)}, "is no name and no IP address"),
        *(
            ("nginx", ELSEWHERE | {"host": host}, PEM, "is no name and no IP address")
            for host in ("a b", "a;b{", "unix:/x", "fe80::1%x;y", "b\u00fccher", "web\n  evil on;", "web\n")
        ),
        ("nginx", {}, PEM | {"port": 8000}, "--port 8000 is the same port as PORT"),
        ("haproxy", {}, PEM | {"port": 8001}, "--port 8001 is the same port as GRAYCAT_PROXY_PROTOCOL_PORT"),
        ("nginx", {}, PEM | {"inner_port": 8000}, "--inner-port 8000 is the same port as PORT"),
        ("nginx", {}, PEM | {"port": 8444}, "--inner-port 8444 is the same port as --port"),
    ],
)
def test_what_cannot_work_together_is_refused(
    program: str, changes: dict[str, Any], options: dict[str, Any], words: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        make_config(program, Settings(**GOOD | changes), EdgeOptions(**options))
    assert words in str(caught.value)


def test_an_address_is_written_one_way_however_it_was_given() -> None:
    options = EdgeOptions(servers=("[fd00::2]", "fd00::2", "[10.0.0.3]"), **PEM)
    config = make_config("nginx", Settings(**GOOD | ELSEWHERE), options)
    assert [server.http for server in config.servers] == ["[fd00::2]:8000", "10.0.0.3:8000"]
    names = make_config("caddy", Settings(**GOOD), EdgeOptions(names=("fd00::2", "[fd00::2]"))).names
    assert names == ("play.example", "[fd00::2]")


def test_the_inner_port_is_nginx_s_alone() -> None:
    assert make_config("haproxy", Settings(**GOOD), EdgeOptions(inner_port=8000, **PEM)).port == 443


def test_caddy_needs_neither_a_certificate_nor_the_port_for_proxies() -> None:
    settings = Settings(**GOOD | {"proxy_protocol_port": 0, "trusted_addresses": "192.0.2.1"})
    config = make_config("caddy", settings, EdgeOptions(names=("other.example",)))
    assert (config.names, config.certificate) == (("play.example", "other.example"), "")
