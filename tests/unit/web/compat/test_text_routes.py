from __future__ import annotations

from graycat.queue.kinds import LLM_KINDS
from graycat.web.compat.text_routes import TEXT_ROUTES


def test_every_kind_of_a_text_engine_has_one_route() -> None:
    assert sorted(route.kind.name for route in TEXT_ROUTES) == sorted(LLM_KINDS)


def test_no_two_routes_share_a_path() -> None:
    paths = [(route.kind.method, path) for route in TEXT_ROUTES for path in route.paths]
    assert len(paths) == len(set(paths))
