"""What a file is called here, and what is no checkpoint."""

from __future__ import annotations

import pytest

from graycat.engines.models.errors import DownloadFailed
from tests.support.download_setup import CONTENT
from tests.support.files import BLOCK, Served, gguf, safetensors

#: What servers call a file, and what it is called here.
NAMES = [
    ("attachment; filename=real.gguf", "real.gguf"),
    ('attachment; filename="../../../etc/cron.d/evil.gguf"', "evil.gguf"),
    ('attachment; filename="..\\\\..\\\\evil.gguf"', "evil.gguf"),
    ("attachment; filename*=UTF-8''%2e%2e%2f%2e%2e%2fevil.gguf", "evil.gguf"),
    ('attachment; filename="/etc/passwd"', "m.gguf"),
    ('attachment; filename=".hidden.gguf"', "hidden.gguf"),
    ('attachment; filename="..gguf"', "m.gguf"),
    ('attachment; filename="a b;$(c).gguf"', "a_b__(c).gguf"),
    (f'attachment; filename="{"x" * 400}.gguf"', f"{'x' * 120}.gguf"),
    ("attachment; filename=m.gguf.json", "m.gguf"),
    ("attachment; filename=virus.exe", "m.gguf"),
    ("attachment", "m.gguf"),
    ('attachment; filename=""', "m.gguf"),
]


@pytest.mark.parametrize(("disposition", "name"), NAMES)
def test_a_server_s_name_for_a_file_leads_nowhere_else(set_up_download, disposition: str, name: str) -> None:
    setup = set_up_download(Served(CONTENT, headers={"Content-Disposition": disposition}))
    assert setup.fetch() == setup.folder / name
    assert setup.files() == [name, f"{name}.json"]


@pytest.mark.parametrize(
    ("name", "content"),
    [("m.gguf", b"<!DOCTYPE html>" * 99), ("m.safetensors", CONTENT), ("m.gguf", safetensors()), ("m.gguf", b"GGUF")],
)
def test_what_is_not_what_its_name_says_is_refused(set_up_download, name: str, content: bytes) -> None:
    setup = set_up_download(Served(content, headers={"Content-Disposition": f"attachment; filename={name}"}))
    with pytest.raises(DownloadFailed, match=r"not a .*\.(gguf|safetensors)"):
        setup.fetch()
    assert not (setup.folder / name).exists()


def test_a_web_page_in_place_of_a_large_file_is_noticed_at_its_first_bytes(set_up_download) -> None:
    asked: list[int] = []
    served = Served(b"<html>" + bytes(50 * BLOCK), before=lambda _, offset: asked.append(offset))
    with pytest.raises(DownloadFailed, match="web page"):
        set_up_download(served).fetch()


@pytest.mark.parametrize("name", ["m.ckpt", "m.pt", "m.pth", "m.bin"])
def test_a_pickled_download_must_be_allowed(set_up_download, name: str) -> None:
    content = b"PK\x03\x04" + bytes(1000)
    setup = set_up_download(
        Served(CONTENT), download=Served(content, headers={"Content-Disposition": f"a; filename={name}"})
    )
    with pytest.raises(DownloadFailed, match="GRAYCAT_ALLOW_PICKLE"):
        setup.fetch("/download")
    assert setup.fetch("/download", allow_pickle=True).name == name
    with pytest.raises(DownloadFailed, match="GRAYCAT_ALLOW_PICKLE"):
        setup.fetch("/download")


def test_a_file_that_was_not_downloaded_is_not_replaced(set_up_download) -> None:
    setup = set_up_download(Served(CONTENT))
    setup.folder.mkdir(parents=True)
    (setup.folder / "m.gguf").write_bytes(b"theirs")
    path = setup.fetch()
    assert path.name.startswith("m-")
    assert (path.read_bytes(), (setup.folder / "m.gguf").read_bytes()) == (CONTENT, b"theirs")


def test_two_sources_of_one_name_do_not_replace_each_other(set_up_download) -> None:
    other = gguf(seed=2)
    setup = set_up_download(Served(CONTENT), **{"b/m.gguf": Served(other)})
    paths = [setup.fetch(), setup.fetch("/b/m.gguf")]
    assert [path.read_bytes() for path in paths] == [CONTENT, other]
    assert [setup.fetch(), setup.fetch("/b/m.gguf")] == paths
    assert len(setup.seen.requests) == 2
