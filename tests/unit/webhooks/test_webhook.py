from __future__ import annotations

import base64
import hashlib
import hmac
import json
import stat
import time
from typing import Any

import pytest

from graycat.errors import RequestError
from graycat.settings import Settings
from graycat.webhooks import webhook as webhooks
from graycat.webhooks.errors import InvalidWebhook
from graycat.webhooks.retries import BACKOFF_S
from graycat.webhooks.webhook import (
    EVENTS,
    MAX_METADATA_BYTES,
    Webhook,
    build_payload,
    owner_secret,
    parse,
    parse_metadata,
    sign,
)
from tests.support.helpers import ROOT
from tests.support.hooks import SECRET

URL = "https://hooks.example/path?key=hush"


def secret_of(count: int) -> str:
    return "whsec_" + base64.b64encode(b"x" * count).decode()


def test_an_address_is_enough() -> None:
    webhook = parse({"url": URL}, Settings())
    assert (webhook.url, webhook.secret) == (URL, "")
    assert set(webhook.events) == {"succeeded", "failed", "cancelled", "expired"}


def test_every_field_can_be_set() -> None:
    webhook = parse({"url": URL, "events": ["succeeded", "started", "succeeded"], "secret": SECRET}, Settings())
    assert webhook == Webhook(URL, ("started", "succeeded"), SECRET)
    assert Webhook.from_json(webhook.to_json()) == webhook
    assert webhook.target.host == "hooks.example"


def test_the_secret_is_never_shown() -> None:
    webhook = parse({"url": URL, "secret": SECRET}, Settings())
    assert webhook.to_view() == {"url": URL, "events": list(webhooks.DEFAULT_EVENTS)}
    assert SECRET not in repr(webhook)
    assert "hush" not in repr(webhook)


@pytest.mark.parametrize(
    "value",
    [
        *(None, "https://hooks.example", [], {}, {"url": None}, {"url": 7}, {"url": [URL]}),
        *({"url": URL, "event": ["failed"]}, {"url": URL, "Secret": SECRET}),
        *({"url": "http://hooks.example/"}, {"url": "https://10.0.0.1/"}, {"url": "https://localhost/"}),
        *({"url": "https://u:hush@hooks.example/"}, {"url": "https://hooks.example:25/"}, {"url": "https://[::1]/"}),
        *({"url": URL, "events": value} for value in ([], "failed", ["done"], [None], [["failed"]], {"failed": 1})),
        *({"url": URL, "secret": value} for value in ("", 7, "hush", "whsec_", "whsec_hush!", secret_of(23))),
        {"url": URL, "secret": secret_of(65)},
        {"url": URL, "secret": SECRET.removeprefix("whsec_")},
    ],
)
def test_an_unusable_webhook_is_refused_with_the_reason(value: Any) -> None:
    with pytest.raises(InvalidWebhook, match="'webhook") as caught:
        parse(value, Settings())
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("count", [24, 64])
def test_a_secret_has_24_to_64_bytes(count: int) -> None:
    assert parse({"url": URL, "secret": secret_of(count)}, Settings()).secret == secret_of(count)


def test_an_operator_can_allow_more_receivers() -> None:
    settings = Settings(webhook_allow="hooks.lan:9000")
    assert parse({"url": "http://hooks.lan:9000/a"}, settings).url == "http://hooks.lan:9000/a"


def test_the_signature_is_that_of_standard_webhooks() -> None:
    # The example of the specification's own libraries.
    headers = sign(
        "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}', "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_the_documented_way_to_verify_works() -> None:
    code = (ROOT / "docs" / "webhooks.md").read_text().partition("```python\n")[2].partition("```")[0]
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 (our own page)
    now_s = int(time.time())
    good = sign("msg_a_failed", now_s, b"{}", SECRET)
    names["verify"](SECRET, good, b"{}")
    bad = [(SECRET, good, b"{ }"), (secret_of(32), good, b"{}"), (SECRET, good | {"webhook-id": "msg_b_failed"}, b"{}")]
    for arguments in [*bad, (SECRET, sign("msg_a_failed", now_s - 400, b"{}", SECRET), b"{}")]:
        with pytest.raises(ValueError, match="not from|too old"):
            names["verify"](*arguments)


def test_the_documented_waits_are_the_real_ones() -> None:
    page = (ROOT / "docs" / "webhooks.md").read_text()
    row = next(line for line in page.splitlines() if line.startswith("| behind the one before"))
    units = {"s": 1, "min": 60, "h": 3600}
    waits = [cell.split() for cell in row.split("|")[3:-1]]
    assert tuple(int(number) * units[unit] for number, unit in waits) == BACKOFF_S


def test_each_owner_has_a_secret_and_it_stays(settings: Settings) -> None:
    game, tools = owner_secret(settings, "game"), owner_secret(settings, "tools")
    assert game != tools
    assert owner_secret(settings, "game") == game
    assert len(base64.b64decode(game.removeprefix("whsec_"))) == 32
    assert parse({"url": URL, "secret": game}, settings).secret == game
    assert stat.S_IMODE((settings.home / "webhook-key").stat().st_mode) == 0o600


def test_with_a_key_of_the_operator_s_no_file_is_made(tmp_path) -> None:
    one, other = (Settings(home=tmp_path / str(number), webhook_key="k" * 16) for number in range(2))
    assert owner_secret(one, "game") == owner_secret(other, "game")
    assert not list(tmp_path.iterdir())
    expected = hmac.new(b"k" * 16, b"graycat webhook secret of game", hashlib.sha256).digest()
    assert owner_secret(one, "game") == "whsec_" + base64.b64encode(expected).decode()


FIELDS = {
    "kind": "sd.txt2img",
    "task_state": "succeeded",
    "status": "200",
    "event_ms": "1767225600123",
    "submitted_ms": "1",
    "started_ms": "2",
    "finished_ms": "3",
    "metadata": '{"order":7}',
}


def test_the_payload_has_what_the_task_s_view_shows_and_no_answer() -> None:
    assert json.loads(build_payload("abc", "succeeded", FIELDS)) == {
        "type": "task.succeeded",
        "timestamp": "2026-01-01T00:00:00.123Z",
        "data": {
            "id": "abc",
            "kind": "sd.txt2img",
            "state": "succeeded",
            "status": 200,
            "submitted_ms": 1,
            "started_ms": 2,
            "finished_ms": 3,
            "metadata": {"order": 7},
            "links": {"task": "/tasks/abc"},
        },
    }


def test_links_begin_with_the_public_address() -> None:
    base = "https://play.example/gpu"
    task = json.loads(build_payload("abc", "succeeded", FIELDS, base))
    assert task["data"]["links"] == {"task": f"{base}/tasks/abc"}
    fields = FIELDS | {"kind": "batch", "name": "portraits", "progress": "{}"}
    batch = json.loads(build_payload("abc", "succeeded", fields, base))
    assert batch["data"]["links"] == {"batch": f"{base}/batches/abc"}


def test_of_a_task_that_has_just_started_less_is_known() -> None:
    fields = {"kind": "llm.chat", "task_state": "running", "submitted_ms": "1", "started_ms": "2", "event_ms": "2000"}
    told = json.loads(build_payload("abc", "started", fields))
    assert (told["type"], told["timestamp"]) == ("task.started", "1970-01-01T00:00:02.000Z")
    assert (told["data"]["status"], told["data"]["metadata"]) == (None, None)
    assert "finished_ms" not in told["data"]


def test_the_same_event_has_the_same_id() -> None:
    ids = {webhooks.message_id(task, event) for task in ("a", "b") for event in EVENTS}
    assert len(ids) == 2 * len(EVENTS)
    assert not [name for name in ids if "." in name]


def test_metadata_comes_back_as_it_went() -> None:
    value = {"order": 7, "name": "Zoë \ud800", "deep": [{}, None]}
    assert json.loads(parse_metadata(value)) == value
    assert parse_metadata({"a": "x" * (MAX_METADATA_BYTES - 8)})


@pytest.mark.parametrize("value", [None, "text", [1], {"a": "x" * MAX_METADATA_BYTES}])
def test_metadata_that_is_none_or_too_much_is_refused(value: Any) -> None:
    with pytest.raises(RequestError, match="'metadata'"):
        parse_metadata(value)
