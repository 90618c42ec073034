from __future__ import annotations

from ipaddress import ip_address

import pytest

from graycat.egress import MAX_URL_CHARS, Target, allowlist, is_public
from graycat.errors import SettingsError

PUBLIC = ["93.184.216.34", "8.8.8.8", "172.15.0.1", "172.32.0.1", "100.63.0.1", "100.128.0.1", "2606:4700::1111"]
PUBLIC += ["::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1", "2606:4700::5efe:808:808"]

#: What nobody may have graycat call, by why.
NOT_PUBLIC = {
    "loopback": ["127.0.0.1", "127.255.0.1", "::1"],
    "private": ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fc00::1", "fd12:3456::1"],
    "link-local": ["169.254.1.1", "fe80::1", "fe80::1%eth0"],
    "metadata": ["169.254.169.254", "fd00:ec2::254", "100.100.100.200", "192.0.0.192", "168.63.129.16", "fd20:ce::254"],
    "CGNAT": ["100.64.0.1", "100.127.255.255"],
    "unspecified": ["0.0.0.0", "0.1.2.3", "::"],  # noqa: S104
    "multicast": ["224.0.0.1", "239.255.255.250", "ff02::1", "ff0e::1"],
    "reserved": ["240.0.0.1", "255.255.255.255", "192.88.99.1", "198.18.0.1", "4000::1", "fec0::1"],
    "documentation": ["192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1"],
    "mapped": ["::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1"],
    "NAT64": ["64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::808:808"],
    "6to4": ["2002:7f00:1::1", "2002:a00:1::", "2002:a9fe:a9fe::1"],
    "Teredo": ["2001:0:7f00:1::1", "2001::808:808"],
    "ISATAP": ["2606:4700::5efe:a00:1", "2606:4700::200:5efe:7f00:1", "fd00::5efe:808:808"],
}


@pytest.mark.parametrize("text", PUBLIC)
def test_addresses_of_the_internet_are_public(text: str) -> None:
    assert is_public(ip_address(text))


@pytest.mark.parametrize("text", [text for texts in NOT_PUBLIC.values() for text in texts])
def test_all_else_is_not(text: str) -> None:
    assert not is_public(ip_address(text))


def test_a_url_is_taken_apart() -> None:
    target = Target.from_url("https://Hooks.Example.COM:8443/a/b%20c?x=1&y=/../z")
    assert (target.host, target.port, target.path) == ("hooks.example.com", 8443, "/a/b%20c?x=1&y=/../z")
    assert (target.authority, target.literal) == ("hooks.example.com:8443", None)


@pytest.mark.parametrize(
    ("url", "authority", "path"),
    [
        ("https://a.example", "a.example", "/"),
        ("https://a.example?q", "a.example", "/?q"),
        ("https://a.example:443/", "a.example", "/"),
        ("http://a.example:443/", "a.example:443", "/"),
        ("http://1.2.3.4/", "1.2.3.4", "/"),
        ("https://[2606:4700::1]:8443/", "[2606:4700::1]:8443", "/"),
        ("https://xn--bcher-kva.example/", "xn--bcher-kva.example", "/"),
    ],
)
def test_a_url_s_parts_go_into_the_request(url: str, authority: str, path: str) -> None:
    target = Target.from_url(url)
    assert (target.authority, target.path) == (authority, path)


@pytest.mark.parametrize(
    "url",
    [
        *("", "a.example", "//a.example", "ftp://a.example", "file:///etc/passwd", "gopher://a.example", "https://"),
        *("https:///path", "https://user@a.example", "https://user:pw@a.example", "https://@a.example"),
        *("https://a.example#top", "https://a.example/#", "https://a example", "https://a.example/a b"),
        *("https://a.example/\r\nX: y", "https://a.example/\x00", "https://bücher.example", "https://a.example/ü"),
        *("https://a.example\\@b.example", "https://a.example:0", "https://a.example:65536", "https://a.example:x"),
        *("https://127.1", "https://2130706433", "https://0x7f000001", "https://0177.0.0.1", "https://1.2.3.4.5"),
        *("https://1.2.3.0x4", "https://[::1", "https://[fe80::1%25eth0]", "https://[fe80::1%eth0]", "https://[a]"),
        *("https://a..example", "https://.a.example", "https://a.example.", "https://-a.example", "https://a%2eb"),
        *("https://" + "a" * 64 + ".example", "https://" + "a." * 127 + "example"),
        "https://a.example/" + "a" * MAX_URL_CHARS,
    ],
)
def test_what_is_no_address_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match=r"^(is|may|must|has)") as caught:
        Target.from_url(url)
    assert "a.example" not in str(caught.value)
    assert "pw" not in str(caught.value)


def complaint(url: str, allow: str = "") -> str:
    return allowlist(allow).complaint(Target.from_url(url))


@pytest.mark.parametrize(
    "url", ["https://a.example", "https://a.example:8443", "https://a.example:1024", "https://8.8.8.8"]
)
def test_what_is_public_may_be_called_over_https(url: str) -> None:
    assert complaint(url) == ""


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://a.example", "https"),
        ("https://a.example:22", "port"),
        ("https://a.example:25", "port"),
        ("https://10.0.0.1", "public"),
        ("https://[::1]", "public"),
        ("https://[::ffff:169.254.169.254]", "public"),
        ("https://localhost", "public"),
        ("https://redis.localhost:6379", "public"),
    ],
)
def test_what_can_never_be_called_is_told_at_once(url: str, why: str) -> None:
    assert why in complaint(url)


@pytest.mark.parametrize(
    ("url", "allow"),
    [
        ("http://receiver.lan", "receiver.lan"),
        ("https://receiver.lan", " Receiver.LAN , other.lan"),
        ("http://receiver.lan:9000", "receiver.lan:9000"),
        ("http://[::1]:9000", "[::1]:9000"),
        ("http://127.0.0.1:9000", "127.0.0.1:9000"),
        ("http://10.1.2.3:9000", "10.0.0.0/8"),
        ("https://[fd00::1]:22", "fd00::/8"),
        # Whether the name lies in the network is asked when it is called.
        ("http://receiver.lan:9000", "10.0.0.0/8"),
    ],
)
def test_an_operator_opens_more(url: str, allow: str) -> None:
    assert complaint(url, allow) == ""


@pytest.mark.parametrize(
    ("url", "allow"),
    [
        ("http://receiver.lan:6379", "receiver.lan"),
        ("http://receiver.lan:9000", "receiver.lan:9001"),
        ("http://evil.receiver.lan", "receiver.lan"),
        ("http://11.1.2.3", "10.0.0.0/8"),
        ("http://10.0.0.1", "10.0.0.2"),
    ],
)
def test_and_no_more_than_that(url: str, allow: str) -> None:
    assert complaint(url, allow)


@pytest.mark.parametrize(
    ("url", "address", "allow", "permitted"),
    [
        ("https://a.example", "8.8.8.8", "", True),
        ("https://a.example", "10.0.0.1", "", False),
        ("http://a.example", "8.8.8.8", "", False),
        ("http://a.example", "8.8.8.8", "10.0.0.0/8", False),
        ("http://a.example:81", "10.0.0.1", "10.0.0.0/8", True),
        ("https://a.example", "192.168.0.1", "10.0.0.0/8", False),
        ("http://a.example", "192.168.0.1", "a.example", True),
        ("https://a.example", "::ffff:10.0.0.1", "10.0.0.0/8", False),
    ],
)
def test_every_call_asks_for_its_address(url: str, address: str, allow: str, permitted: bool) -> None:
    assert allowlist(allow).permits(Target.from_url(url), ip_address(address)) is permitted


@pytest.mark.parametrize("text", ["10.0.0.1/8", "10.0.0.0/33", "a b", "http://a.lan", "a.lan:x", "a.lan/x", "u@a.lan"])
def test_a_list_that_makes_no_sense_names_its_variable(text: str) -> None:
    with pytest.raises(SettingsError, match="GRAYCAT_WEBHOOK_ALLOW") as caught:
        allowlist(text)
    assert "\n" not in str(caught.value)
