"""The gallery of a batch over HTTP."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from PIL import Image

from graycat.broker.keys import batch_key, batch_part_key
from graycat.web.api import gallery
from graycat.web.services import services_of
from tests.support.batching import Batching, make_image
from tests.support.helpers import SECRET
from tests.unit.web.conftest import client_of


@pytest.fixture
def batching(broker, tmp_path: Path) -> Batching:
    return Batching(broker, tmp_path / "out")


@pytest.fixture
def web(web_with, batching: Batching) -> Any:
    """Return a client of a web server that reaches the batches' files."""
    return web_with(batch_dir=str(batching.out))


@pytest.fixture
def done(batching: Batching) -> str:
    """Return the id of a batch that has succeeded."""
    batch_id = batching.submit(items=["a <b>knight</b>", "a thief"])
    assert batching.run_to_end(batch_id) == "succeeded"
    return batch_id


@pytest.fixture
def stranger(web) -> Any:
    """Return a client without an API token."""
    return client_of(web.application).application.test_client()


@pytest.fixture
def link(web) -> Callable[..., str]:
    """Return how to get a signed link."""
    return lambda batch_id, **body: web.post(f"/batches/{batch_id}/gallery/link", json=body).json["url"]


def changed(url: str, **parameters: str) -> str:
    """Return a link with some of its parameters changed."""
    path, _, query = url.partition("?")
    return f"{path}?{urlencode(dict(parse_qsl(query)) | parameters)}"


def test_a_batch_s_images_are_on_a_page(web, done: str) -> None:
    page = web.get(f"/batches/{done}/gallery")
    assert (page.status_code, page.content_type) == (200, "text/html; charset=utf-8")
    assert "succeeded: 2 of 2 images done" in page.text
    assert "a &lt;b&gt;knight&lt;/b&gt;" in page.text
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert page.headers["Referrer-Policy"] == "no-referrer"
    assert page.headers["Cache-Control"] == "private, no-store"


def test_a_signed_link_needs_no_token(web, stranger, done: str, link, batching: Batching) -> None:
    url = link(done, ttl_s=3600)
    assert stranger.get(url).status_code == 200
    query = url.partition("?")[2]
    base = f"/batches/{done}/gallery"
    whole = stranger.get(f"{base}/images/2?{query}")
    assert (whole.status_code, whole.content_type) == (200, "image/png")
    assert whole.data == make_image(f"a thief {batching.batches.get_item(done, 2)['seed']}")  # type: ignore[index]
    small = stranger.get(f"{base}/thumbnails/2?{query}")
    assert Image.open(BytesIO(small.data)).format == "WEBP"
    again = stranger.get(f"{base}/thumbnails/2?{query}", headers={"If-None-Match": small.headers["ETag"]})
    assert again.status_code == 304
    state = stranger.get(f"{base}/state?{query}").json
    assert (state["over"], state["live"], len(state["cards"])) == (2, False, 2)
    # It opens no other door.
    assert stranger.get(f"/batches/{done}?{query}").status_code == 401
    assert stranger.post(f"{base}/link?{query}").status_code == 401


def test_the_addresses_on_the_page_open_without_the_api_token(web, stranger, done: str) -> None:
    cards = web.get(f"/batches/{done}/gallery/state").json["cards"]
    for card in cards:
        for address in (card["image"], card["thumbnail"]):
            assert stranger.get(f"/batches/{done}/{address}").status_code == 200


def test_without_a_token_or_a_link_nothing_is_shown(stranger, done: str) -> None:
    for path in ("", "/state", "/images/1", "/thumbnails/1", "/images.zip"):
        refused = stranger.get(f"/batches/{done}/gallery{path}")
        assert refused.status_code == 401, path
        # A browser asks its user.
        assert refused.headers["WWW-Authenticate"].startswith("Basic")
    assert stranger.get(f"/batches/{done}/gallery", auth=("me", SECRET)).status_code == 200
    assert stranger.get(f"/batches/{done}/gallery", auth=("me", "wrong")).status_code == 401


@pytest.mark.parametrize(
    "change", [{"signature": "x" * 43}, {"expires": "9999999999"}, {"expires": ""}, {"signature": ""}, {"expires": "1"}]
)
def test_a_link_that_was_changed_is_forbidden(stranger, done: str, link, change) -> None:
    refused = stranger.get(changed(link(done), **change))
    assert (refused.status_code, refused.json["error"]["type"]) == (403, "permission_error")


def test_a_link_to_another_gallery_and_one_that_has_expired_are_forbidden(web, stranger, done: str, link) -> None:
    query = link(done).partition("?")[2]
    assert stranger.get(f"/batches/0123456789abcdef/gallery?{query}").status_code == 403
    links = services_of(web.application).gallery_links
    expired = urlencode(links.sign(done, -5))
    refused = stranger.get(f"/batches/{done}/gallery?{expired}")
    assert (refused.status_code, "expired" in refused.json["error"]["message"]) == (403, True)


def test_another_s_batch_is_not_there(web, batching: Batching) -> None:
    batch_id, _ = batching.batches.submit({"name": "x", "items": ["y"]}, "others")
    for path in ("gallery", "gallery/state", "gallery/images.zip"):
        assert web.get(f"/batches/{batch_id}/{path}").status_code == 404
    assert web.post(f"/batches/{batch_id}/gallery/link").status_code == 404


@pytest.mark.parametrize("body", [{"ttl_s": 59}, {"ttl_s": 10**9}, {"ttl_s": "1d"}, {"ttl_s": True}, {"days": 1}, [1]])
def test_a_link_lives_as_long_as_it_may(web, done: str, body) -> None:
    assert web.post(f"/batches/{done}/gallery/link", json=body).status_code == 400


def test_while_a_batch_runs_its_page_asks_for_news(web, batching: Batching) -> None:
    batch_id = batching.submit(items=["a knight", "a thief"])
    assert "There are no images yet." in web.get(f"/batches/{batch_id}/gallery").text
    batching.run_steps()
    page = web.get(f"/batches/{batch_id}/gallery").text
    assert "data-live" in page
    assert page.count("no image yet") == 2
    assert web.get(f"/batches/{batch_id}/gallery/images/1").status_code == 404
    batching.render()
    batching.run_steps()
    news = web.get(f"/batches/{batch_id}/gallery/state").json
    assert (news["live"], news["over"], "1 of 2 images done" in news["summary"]) == (True, 1, True)
    assert [bool(card["image"]) for card in news["cards"]] == [True, False]
    assert news["cards"][0]["alt"] == "Image 1: a knight"


def test_many_images_are_several_pages(web, batching: Batching, monkeypatch) -> None:
    monkeypatch.setattr(gallery, "PAGE_SIZE", 2)
    batch_id = batching.submit(items=["a", "b", "c"])
    batching.run_to_end(batch_id)
    first, second = (web.get(f"/batches/{batch_id}/gallery?page={n}").text for n in (1, 2))
    assert (first.count("<li "), second.count("<li ")) == (2, 1)
    assert 'rel="next"' in first
    assert 'rel="prev"' in second
    for number in ("0", "-1", "x", "1e3", "12345678"):
        assert web.get(f"/batches/{batch_id}/gallery?page={number}").status_code == 400


def test_all_images_are_in_a_zip(web, batching: Batching) -> None:
    batch_id = batching.submit(name="Tavern <1>", items=["a", "b"])
    batching.run_to_end(batch_id)
    answer = web.get(f"/batches/{batch_id}/gallery/images.zip")
    assert answer.headers["Content-Disposition"] == f'attachment; filename="tavern-1-{batch_id}.zip"'
    with zipfile.ZipFile(BytesIO(answer.data)) as archive:
        assert archive.testzip() is None
        names = [item["file"] for item in batching.batches.list_items(batch_id)]
        assert archive.namelist() == [*names, "manifest.jsonl"]
        assert archive.read("manifest.jsonl").count(b"\n") == 2
        assert archive.infolist()[0].date_time[0] >= 2026


def test_an_image_that_has_gone_is_left_out(web, done: str, batching: Batching) -> None:
    row = batching.batches.get(done)
    (batching.out / row["folder"] / batching.batches.list_items(done)[0]["file"]).unlink()
    assert web.get(f"/batches/{done}/gallery/images/1").status_code == 404
    with zipfile.ZipFile(BytesIO(web.get(f"/batches/{done}/gallery/images.zip").data)) as archive:
        assert len(archive.namelist()) == 2


@pytest.mark.parametrize("planned", [True, False])
def test_a_batch_with_half_a_character_of_an_earlier_release_is_shown_and_cancelled(
    web, batching: Batching, planned: bool
) -> None:
    batch_id = batching.submit()
    if planned:
        batching.run_steps(2)
        plan = batch_part_key(batch_id, "plan")
        item = json.loads(batching.client.hget(plan, "1") or b"")
        item["request"]["prompt"] = "half \ud83d"
        batching.client.hset(plan, "1", json.dumps(item))
        batching.run_steps(2)
    document = json.dumps({"name": "two", "items": ["half \ud83d", "a thief"]})
    batching.client.hset(batch_key(batch_id), "document", document)
    path = f"/batches/{batch_id}"
    for part in ("", "/items", "/spec", "/manifest", "/gallery", "/gallery/state", "/gallery/images.zip"):
        assert web.get(path + part).status_code == 200, part
    assert web.delete(path).json["state"] == "cancelled"
    batching.run_steps(6)
    assert batching.state(batch_id) == "cancelled"
    assert batching.batches.list_live() == []
