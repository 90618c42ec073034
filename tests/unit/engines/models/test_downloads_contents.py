"""What a file is called here, and what is no checkpoint."""

from __future__ import annotations

import pytest

from graycat.engines.models.errors import DownloadFailed
from tests.support.files import BLOCK, Served, gguf, safetensors
from tests.support.places import CONTENT

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
def test_a_server_s_name_for_a_file_leads_nowhere_else(place, disposition: str, name: str) -> None:
    here = place(Served(CONTENT, headers={"Content-Disposition": disposition}))
    assert here.fetch() == here.folder / name
    assert here.files() == [name, f"{name}.json"]


@pytest.mark.parametrize(
    ("name", "content"),
    [("m.gguf", b"<!DOCTYPE html>" * 99), ("m.safetensors", CONTENT), ("m.gguf", safetensors()), ("m.gguf", b"GGUF")],
)
def test_what_is_not_what_its_name_says_is_refused(place, name: str, content: bytes) -> None:
    here = place(Served(content, headers={"Content-Disposition": f"attachment; filename={name}"}))
    with pytest.raises(DownloadFailed, match=r"not a .*\.(gguf|safetensors)"):
        here.fetch()
    assert not (here.folder / name).exists()


def test_a_web_page_in_place_of_a_large_file_is_noticed_at_its_first_bytes(place) -> None:
    asked: list[int] = []
    served = Served(b"<html>" + bytes(50 * BLOCK), before=lambda _, offset: asked.append(offset))
    with pytest.raises(DownloadFailed, match="web page"):
        place(served).fetch()


@pytest.mark.parametrize("name", ["m.ckpt", "m.pt", "m.pth", "m.bin"])
def test_a_pickled_checkpoint_needs_to_be_wanted(place, name: str) -> None:
    content = b"PK\x03\x04" + bytes(1000)
    here = place(Served(CONTENT), download=Served(content, headers={"Content-Disposition": f"a; filename={name}"}))
    with pytest.raises(DownloadFailed, match="GRAYCAT_ALLOW_PICKLE"):
        here.fetch("/download")
    assert here.fetch("/download", allow_pickle=True).name == name
    with pytest.raises(DownloadFailed, match="GRAYCAT_ALLOW_PICKLE"):
        here.fetch("/download")


def test_a_file_that_somebody_else_put_there_is_left_alone(place) -> None:
    here = place(Served(CONTENT))
    here.folder.mkdir(parents=True)
    (here.folder / "m.gguf").write_bytes(b"theirs")
    path = here.fetch()
    assert path.name.startswith("m-")
    assert (path.read_bytes(), (here.folder / "m.gguf").read_bytes()) == (CONTENT, b"theirs")


def test_two_origins_of_one_name_do_not_replace_each_other(place) -> None:
    other = gguf(seed=2)
    here = place(Served(CONTENT), **{"b/m.gguf": Served(other)})
    paths = [here.fetch(), here.fetch("/b/m.gguf")]
    assert [path.read_bytes() for path in paths] == [CONTENT, other]
    assert [here.fetch(), here.fetch("/b/m.gguf")] == paths
    assert len(here.seen.requests) == 2
