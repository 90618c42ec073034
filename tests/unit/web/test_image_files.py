from __future__ import annotations

import pytest

from graycat.web.image_files import image_response

PNG, JPEG, WEBP = b"\x89PNG\r\n\x1a\n and so on", b"\xff\xd8\xff and so on", b"RIFF\0\0\0\0WEBP and so on"
PAGES = [
    b"<html><script>alert(1)</script>",
    b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    b"",
    b"GIF89a",
    b"RIFFxxxxAVI ",
]


@pytest.mark.parametrize(("data", "kind"), [(PNG, "image/png"), (JPEG, "image/jpeg"), (WEBP, "image/webp")])
def test_an_image_is_shown(data: bytes, kind: str) -> None:
    response = image_response(data, "a-digest")
    assert (response.content_type, response.data, response.headers["ETag"]) == (kind, data, '"a-digest"')
    assert "Content-Disposition" not in response.headers
    assert response.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("data", PAGES)
def test_what_is_no_image_is_a_download_that_no_browser_shows(data: bytes) -> None:
    response = image_response(data)
    assert response.content_type == "application/octet-stream"
    assert response.headers["Content-Disposition"] == "attachment"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
