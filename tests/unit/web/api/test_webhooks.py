from __future__ import annotations

from graycat.broker.keys import record_key
from graycat.webhooks.hooks import Hooks
from graycat.webhooks.webhook import owner_secret


def test_a_caller_can_read_its_own_webhook_secret(web, settings) -> None:
    answer = web.get("/webhooks/secret")
    assert answer.json["secret"].startswith("whsec_")
    assert web.get("/webhooks/secret").json == answer.json


def test_each_owner_has_a_secret_of_its_own(tmp_path, settings) -> None:
    assert owner_secret(settings, "a") != owner_secret(settings, "b")


def test_the_webhook_secret_needs_a_token(web) -> None:
    assert web.get("/webhooks/secret", headers={"Authorization": "Bearer wrong"}).status_code == 401


def test_a_task_shows_its_webhook_without_the_secret_and_a_retry_has_it_too(web, client) -> None:
    hook = {"url": "https://example.com/hook", "events": ["succeeded", "cancelled"], "secret": "whsec_" + "QUFB" * 8}
    body = {"kind": "llm.completion", "input": {"prompt": "Hi"}, "webhook": hook, "metadata": {"order": 7}}
    task_id = web.post("/tasks", json=body).json["id"]
    shown = {"url": hook["url"], "events": hook["events"], "deliveries": []}
    assert web.get(f"/tasks/{task_id}").json["webhook"] == shown
    assert b"whsec_" not in b"".join(client.hgetall(record_key(task_id)).values())
    web.post(f"/tasks/{task_id}/cancel")
    again = web.post(f"/tasks/{task_id}/retry").json["id"]
    assert again != task_id
    assert web.get(f"/tasks/{again}").json["webhook"] == shown
    assert Hooks(client).read(again) == Hooks(client).read(task_id)
