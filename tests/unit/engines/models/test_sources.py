from __future__ import annotations

import socket

import pytest

from graycat.engines.models.sources import HubFile, is_private_host, parse_source

DIGEST = "ab" * 32
ENDPOINT = "http://127.0.0.1:8099"

#: Addresses of the hub's files: repository, revision and path.
ON_THE_HUB = [
    ("hf://owner/repo/m.gguf", ("owner/repo", "main", "m.gguf")),
    ("hf://owner/repo/Q4/m.gguf", ("owner/repo", "main", "Q4/m.gguf")),
    ("hf://owner/repo@v1/m.gguf", ("owner/repo", "v1", "m.gguf")),
    ("hf://owner/repo@refs/pr/1/m.gguf", ("owner/repo", "refs/pr/1", "m.gguf")),
    ("hf://owner/repo/m.gguf@v1", ("owner/repo", "v1", "m.gguf")),
    ("https://huggingface.co/owner/repo/resolve/main/m.gguf", ("owner/repo", "main", "m.gguf")),
    ("https://huggingface.co/owner/repo/resolve/main/m.gguf?download=true", ("owner/repo", "main", "m.gguf")),
    ("https://huggingface.co/owner/repo/blob/v1/a/m.gguf", ("owner/repo", "v1", "a/m.gguf")),
    ("https://hf.co/owner/repo/resolve/main/m.gguf", ("owner/repo", "main", "m.gguf")),
    (f"{ENDPOINT}/owner/repo/resolve/main/m.gguf", ("owner/repo", "main", "m.gguf")),
]


@pytest.mark.parametrize(("address", "file"), ON_THE_HUB)
def test_an_address_of_the_hub_is_a_file_at_a_revision(address: str, file: tuple[str, str, str]) -> None:
    source = parse_source(f"{address}#sha256={DIGEST}", ENDPOINT)
    assert source.hub == HubFile(*file)
    assert (source.name, source.sha256) == ("m.gguf", DIGEST)
    assert source.display_url == f"hf://{file[0]}@{file[1]}/{file[2]}"


def test_all_ways_to_write_a_file_of_the_hub_mean_one() -> None:
    same = {
        parse_source(address, ENDPOINT).key for address, file in ON_THE_HUB if file == ("owner/repo", "main", "m.gguf")
    }
    assert len(same) == 1


@pytest.mark.parametrize(
    "address",
    [
        "https://example.org/owner/repo/resolve/main/m.gguf",
        "https://huggingface.co/datasets/owner/repo/resolve/main/m.gguf",
        "http://127.0.0.1:8098/owner/repo/resolve/main/m.gguf",
        "https://me:secret@huggingface.co/owner/repo/resolve/main/m.gguf",
    ],
)
def test_any_other_address_is_asked_as_it_is(address: str) -> None:
    source = parse_source(address, ENDPOINT)
    assert (source.hub, source.url, source.name) == (None, address, "m.gguf")


#: Addresses that cannot be used, and a word of the reason.
UNUSABLE = [
    ("ftp://host/m.gguf", "https"),
    ("m.gguf", "https"),
    ("https:///m.gguf", "host"),
    ("https://host:0/m.gguf", "port"),
    ("https://host/m.gguf#v1", "sha256"),
    ("https://host/m.gguf#sha256=abc", "sha256"),
    ("http://8.8.8.8/m.gguf", "plain http"),
    ("http://[2606:4700::1]/m.gguf", "plain http"),
    ("hf://owner", "hf://OWNER"),
    ("hf://owner/repo", "file"),
    ("hf://datasets/owner/repo/m.gguf", "model"),
    ("hf://owner/repo/../../m.gguf", "path"),
    ("hf://", "hf://OWNER"),
]


@pytest.mark.parametrize(("address", "word"), UNUSABLE)
def test_an_error_about_an_address_contains_no_secret(address: str, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        parse_source(address)
    secret = address.replace("://", "://me:hush-hush@")
    with pytest.raises(ValueError, match=r".") as caught:
        parse_source(secret)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/m.gguf", "http://10.1.2.3/m.gguf", "http://nas.lan/m.gguf"])
def test_plain_http_may_lead_to_a_private_network(address: str) -> None:
    assert parse_source(address).url == address


def test_the_displayed_address_contains_no_secret() -> None:
    source = parse_source("https://me:pass-word@host:444/a/m.gguf?id=5&token=hush-hush#sha256=" + DIGEST)
    assert source.display_url == "https://host:444/a/m.gguf?..."
    assert [word for word in ("pass-word", "hush-hush", "me:") if word in repr(source)] == []


def test_a_new_signature_is_no_other_file() -> None:
    def key(query: str, login: str = "") -> str:
        return parse_source(f"https://{login}host/m.gguf?{query}").key

    same = key("id=5")
    assert key("id=5&token=a") == key("id=5&token=b") == key("id=5", "me:pw@") == same
    assert key("X-Amz-Signature=x&id=5") == key("id=5&X-Goog-Signature=y&X-Goog-Expires=60") == same
    assert key("id=6") != same
    assert parse_source("https://host/a.gguf").key != parse_source("https://host/b.gguf").key


def test_a_name_is_read_without_its_escapes() -> None:
    assert parse_source("https://host/a/my%20model.gguf?x=1").name == "my model.gguf"


def test_only_a_host_with_private_addresses_alone_is_private(monkeypatch) -> None:
    def resolve(*addresses: str) -> None:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)

    resolve("192.168.1.5", "fe80::1%eth0")
    assert is_private_host("nas.lan")
    resolve("192.168.1.5", "8.8.8.8")
    assert not is_private_host("nas.lan")
