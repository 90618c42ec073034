from __future__ import annotations

from flask import Flask

from graycat.web.openapi.gallery import operation


def test_every_gallery_route_is_documented(shared_app: Flask) -> None:
    endpoints = [rule.endpoint for rule in shared_app.url_map.iter_rules() if rule.endpoint.startswith("gallery.")]
    assert len(endpoints) == 6
    assert all(operation(endpoint) for endpoint in endpoints)
    assert operation("batches.show") == {}


def test_signed_links_are_documented_on_image_routes() -> None:
    assert {row["name"] for row in operation("gallery.image")["parameters"]} == {"expires", "signature"}
    assert "parameters" not in operation("gallery.link")
