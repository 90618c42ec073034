from __future__ import annotations

import json
import re
from typing import Any

import pytest

from graycat.edge.config import NGINX, PROGRAMS, EdgeOptions, make_config
from graycat.edge.render import ERRORS, error_body, render
from graycat.settings import Settings
from tests.support.helpers import changed

SETTINGS = Settings(public_url="https://play.example", proxy_protocol_port=8001, forwarded_from="127.0.0.1")


def text(program: str, settings: Settings = SETTINGS, **options: Any) -> str:
    """Return a program's configuration."""
    return render(program, make_config(program, settings, EdgeOptions(certificate="/edge.pem", **options)))


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_configuration_follows_the_settings(program: str) -> None:
    changes = {"max_image_body_bytes": 77_000_000, "sd_exec_timeout_s": 1234.0, "cors_origins": "https://game.example"}
    found = text(program, changed(SETTINGS, **changes))
    assert ("77000000" in found) is (program == NGINX)
    for words in ("1864s", "https://game", "max-age=31536000", "/edge.pem", "127.0.0.1:8000"):
        assert words in found
    assert "https://game" not in text(program)


@pytest.mark.parametrize("program", PROGRAMS)
def test_what_is_turned_off_is_not_there(program: str) -> None:
    found = text(program, hsts_s=0, ipv6=False, access_log="")
    assert "Strict-Transport-Security" not in found
    assert "[::]" not in found
    assert "access.log" not in found


def test_caddy_takes_an_origin_for_nothing_but_itself() -> None:
    origins = ("https://[::1]:3000", "app+x.y://b")
    found = text("caddy", changed(SETTINGS, cors_origins=",".join(origins)))
    (pattern,) = re.findall(r'header_regexp Origin "(.*)"', found)
    assert all(re.fullmatch(pattern, origin) for origin in origins)
    assert not any(re.fullmatch(pattern, origin) for origin in ("https://::3000", "appxx.y://b", "app+xzy://b"))


@pytest.mark.parametrize("status", ERRORS)
def test_errors_have_graycat_s_form_and_need_no_care_in_any_configuration(status: int) -> None:
    body = error_body(status)
    assert json.loads(body)["error"]["code"] == status
    assert not set(body) & set("'`$%\\;\n")
