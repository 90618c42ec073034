from __future__ import annotations

import re

from graycat.engines.placeholder import catalog
from graycat.images.webui_lists import WEBUI_LISTS


def test_the_placeholder_answers_most_of_them_and_each_is_a_route_of_its_own() -> None:
    assert set(catalog.LISTS) & set(WEBUI_LISTS) >= {"samplers", "sd-models", "upscalers"}
    assert len(set(WEBUI_LISTS)) == len(WEBUI_LISTS)
    assert all(re.fullmatch("[a-z-]+", name) for name in WEBUI_LISTS)
