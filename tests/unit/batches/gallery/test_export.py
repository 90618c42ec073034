from __future__ import annotations

from pathlib import Path

import pytest

from graycat.batches.errors import OutputUnavailable
from graycat.batches.gallery import export
from tests.support.batching import Batching


@pytest.fixture
def batching(broker, tmp_path: Path) -> Batching:
    return Batching(broker, tmp_path / "out")


def folder_of(batching: Batching, batch_id: str) -> Path:
    return batching.out / batching.batches.get(batch_id)["folder"]


def test_a_batch_that_has_ended_has_a_page_in_its_folder(batching: Batching) -> None:
    batch_id = batching.submit(items=["a <b>knight</b>", "a thief", "a third"], count=3)
    assert batching.run_to_end(batch_id) == "succeeded"
    folder = folder_of(batching, batch_id)
    html = (folder / "index.html").read_text()
    assert "succeeded: 9 of 9 images done" in html
    assert "a &lt;b&gt;knight&lt;/b&gt;" in html
    assert html.count("<li ") == 9
    thumbnails = list((folder / "gallery").glob("*.webp"))
    assert len(thumbnails) == 9
    assert all(f'src="gallery/{path.name}"' in html for path in thumbnails)
    assert (folder / "manifest.jsonl").read_text().count("\n") == 9


def test_many_images_are_several_pages(batching: Batching, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "IMAGES_PER_PAGE", 2)
    batch_id = batching.submit(items=["a", "b", "c"])
    batching.run_to_end(batch_id)
    folder = folder_of(batching, batch_id)
    first, second = ((folder / name).read_text() for name in ("index.html", "index-2.html"))
    assert (first.count("<li "), second.count("<li ")) == (2, 1)
    assert 'rel="next" href="index-2.html"' in first
    assert 'rel="prev" href="index.html"' in second
    assert not (folder / "index-3.html").exists()


def test_a_batch_that_is_resumed_has_a_new_page_at_its_next_end(batching: Batching) -> None:
    batch_id = batching.submit(items=["a", "b"])
    batching.run_steps()
    batching.render()
    batching.run_steps()
    batching.batches.cancel(batch_id)
    batching.run_to_end(batch_id)
    folder = folder_of(batching, batch_id)
    assert "cancelled: 1 of 2 images done" in (folder / "index.html").read_text()
    batching.batches.resume(batch_id)
    assert batching.run_to_end(batch_id) == "succeeded"
    assert "succeeded: 2 of 2 images done" in (folder / "index.html").read_text()
    assert len(list((folder / "gallery").glob("*.webp"))) == 2


def test_a_page_that_cannot_be_written_keeps_no_batch_from_its_end(batching: Batching, monkeypatch, caplog) -> None:
    batch_id = batching.submit(items=["a"])

    def full(*_: object) -> None:
        raise OutputUnavailable("there is no space left")

    monkeypatch.setattr(export, "create_thumbnails", full)
    assert batching.run_to_end(batch_id) == "succeeded"
    assert not (folder_of(batching, batch_id) / "index.html").exists()
    assert "no page for a batch" in caplog.text
    assert batching.client.zscore("graycat:batches:live", batch_id) is None


def test_names_in_addresses_are_quoted(batching: Batching) -> None:
    batch_id = batching.submit(items=["a"], output={"folder": "x", "pattern": "part #1/{item} {prompt_slug}"})
    batching.run_to_end(batch_id)
    html = (folder_of(batching, batch_id) / "index.html").read_text()
    assert 'href="part%20%231/1%20a.png"' in html


def test_images_that_were_fetched_have_a_page_as_well(batching: Batching, tmp_path: Path) -> None:
    batch_id = batching.submit(items=["a", "b"])
    batching.run_to_end(batch_id)
    rows = batching.batches.list_items(batch_id)
    here = tmp_path / "here"
    here.mkdir()
    (here / rows[0]["file"]).write_bytes((folder_of(batching, batch_id) / rows[0]["file"]).read_bytes())
    export.write_local_gallery(here, batching.batches.get(batch_id), rows)
    html = (here / "index.html").read_text()
    assert (html.count("<li "), html.count("no image yet")) == (2, 1)
    assert len(list((here / "gallery").glob("*.webp"))) == 1
    export.write_local_gallery(here, batching.batches.get(batch_id), [])
    assert "There are no images yet." in (here / "index.html").read_text()
