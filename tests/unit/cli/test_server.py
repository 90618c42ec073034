from __future__ import annotations

import pytest

from graycat.auth import tokens
from graycat.cli.server import find_api_token, server_url
from graycat.settings import Settings
from tests.support.helpers import changed


def test_the_server_is_that_of_the_settings() -> None:
    assert server_url(Settings(host="0.0.0.0", port=8001)) == "http://127.0.0.1:8001"  # noqa: S104 (called, not bound)
    assert server_url(Settings(host="::1")) == "http://[::1]:8000"
    assert server_url(Settings(host="box.example")) == "http://box.example:8000"


def test_the_api_token_is_the_first_of_the_settings(settings: Settings) -> None:
    named = changed(settings, api_tokens="games:first-secret,tools:second-secret")
    assert find_api_token(named, "https://elsewhere.example") == "first-secret"


def test_a_generated_api_token_goes_to_no_other_machine_and_is_not_made_here(tmp_path) -> None:
    settings = Settings(home=tmp_path / "home", host="10.0.0.1")
    here = server_url(settings)
    with pytest.raises(Exception, match="--token"):
        find_api_token(settings, here)
    assert not settings.home.exists()
    generated = tokens.load_generated_token(settings)
    assert find_api_token(settings, here) == find_api_token(settings, "http://localhost:8001") == generated
    with pytest.raises(Exception, match="--token"):
        find_api_token(settings, "https://elsewhere.example")
