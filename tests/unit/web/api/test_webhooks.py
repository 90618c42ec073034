from __future__ import annotations

from graycat.webhooks.webhook import owner_secret


def test_a_caller_can_read_its_own_webhook_secret(web, settings) -> None:
    answer = web.get("/webhooks/secret")
    assert answer.json["secret"].startswith("whsec_")
    assert web.get("/webhooks/secret").json == answer.json


def test_each_owner_has_a_secret_of_its_own(tmp_path, settings) -> None:
    assert owner_secret(settings, "a") != owner_secret(settings, "b")


def test_the_webhook_secret_needs_a_token(web) -> None:
    assert web.get("/webhooks/secret", headers={"Authorization": "Bearer wrong"}).status_code == 401
