from __future__ import annotations

import pytest

from graycat.engines.placeholder import catalog
from graycat.engines.placeholder.errors import ValidationError
from graycat.engines.placeholder.options import DEFAULTS, Options


def test_the_defaults_can_be_read() -> None:
    assert Options().to_dict() == DEFAULTS


def test_overrides_go_back_also_after_a_failure() -> None:
    options = Options()
    with pytest.raises(KeyError), options.override({"jpeg_quality": 10}, restore=True):
        options.set("no_such", options["jpeg_quality"])
    assert options["jpeg_quality"] == 80
    with options.override({"jpeg_quality": 10}, restore=False):
        pass
    assert options["jpeg_quality"] == 10


def test_an_unknown_override_changes_nothing() -> None:
    options = Options()
    with pytest.raises(KeyError), options.override({"jpeg_quality": 10, "no_such": 1}, restore=False):
        pytest.fail("must not be reached")
    assert options["jpeg_quality"] == 80


def test_an_unknown_checkpoint_is_refused_before_any_change() -> None:
    options = Options()
    with pytest.raises(RuntimeError, match="'x' not found"):
        options.update({"jpeg_quality": 10, "sd_model_checkpoint": "x"})
    assert options["jpeg_quality"] == 80
    options.update({"sd_model_checkpoint": catalog.HASH})
    assert options["sd_model_checkpoint"] == catalog.HASH


def test_what_is_restricted_stays() -> None:
    options = Options()
    options.update({"api_enable_requests": False})
    assert options["api_enable_requests"] is True


def test_a_wrong_type_is_refused_when_it_is_read() -> None:
    options = Options()
    options.update({"hide_samplers": 5, "samples_format": None})
    assert options.to_dict()["hide_samplers"] == 5
    options.update({"samples_save": "perhaps"})
    with pytest.raises(ValidationError, match="samples_save"):
        options.to_dict()
