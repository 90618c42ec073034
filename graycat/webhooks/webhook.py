"""Webhooks: what a caller may ask for, what is told, and how it is signed (the headers of Standard Webhooks)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from graycat.egress import Target, allowlist
from graycat.errors import RequestError
from graycat.queue.models import TERMINAL_STATES
from graycat.settings import Settings
from graycat.settings.secretfiles import load_or_create
from graycat.webhooks.errors import InvalidWebhook

#: What a webhook may be told of: a task's first start, and its end. ``queue/lua/conclude.lua`` names them so.
EVENTS = ("started", *TERMINAL_STATES)
DEFAULT_EVENTS = TERMINAL_STATES

FIELDS = frozenset({"url", "events", "secret"})
SECRET_PREFIX = "whsec_"  # noqa: S105 (the prefix of all of them)
MIN_SECRET_BYTES, MAX_SECRET_BYTES = 24, 64
#: A task's metadata, as JSON.
MAX_METADATA_BYTES = 16 * 1024
#: Times of a record that are told.
TIMES = ("submitted_ms", "started_ms", "finished_ms")


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where a task's owner wants to be told of it. ``secret``: empty for that of the API token."""

    url: str = field(repr=False)
    events: tuple[str, ...] = DEFAULT_EVENTS
    secret: str = field(default="", repr=False)

    @property
    def target(self) -> Target:
        """Return the address, taken apart."""
        return Target.from_url(self.url)

    def encoded(self) -> str:
        """Return what a record holds; the secret is in it."""
        return json.dumps({"url": self.url, "events": self.events, "secret": self.secret})

    def shown(self) -> dict[str, Any]:
        """Return what its owner may see of it."""
        return {"url": self.url, "events": list(self.events)}

    @classmethod
    def from_record(cls, text: str) -> Webhook:
        """Return the webhook that a record holds."""
        values = json.loads(text)
        return cls(values["url"], tuple(values["events"]), values["secret"])


def parse(value: Any, settings: Settings) -> Webhook:
    """Return the webhook that a request asks for. Raises InvalidWebhook.

    Names are not resolved here: whether a receiver's address is public is asked at each call.
    """
    if not isinstance(value, dict) or not isinstance(value.get("url"), str):
        raise InvalidWebhook('\'webhook\' must be an object: {"url": "https://...", "events": [...], "secret": ...}')
    if unknown := sorted(value.keys() - FIELDS):
        raise InvalidWebhook(f"'webhook' has no field {unknown[0][:40]!r}; it takes url, events and secret")
    try:
        complaint = allowlist(settings.webhook_allow).complaint(Target.from_url(value["url"]))
    except ValueError as error:
        complaint = str(error)
    if complaint:
        raise InvalidWebhook(f"'webhook.url' {complaint}")
    return Webhook(value["url"], _events(value.get("events")), _secret(value.get("secret")))


def _events(value: Any) -> tuple[str, ...]:
    if value is None:
        return DEFAULT_EVENTS
    if not isinstance(value, list) or not value or not all(event in EVENTS for event in value):
        raise InvalidWebhook(f"'webhook.events' must be a list out of {', '.join(EVENTS)}")
    return tuple(event for event in EVENTS if event in value)


def _secret(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str) and MIN_SECRET_BYTES <= len(_key_of(value)) <= MAX_SECRET_BYTES:
        return value
    raise InvalidWebhook(
        f"'webhook.secret' must be {SECRET_PREFIX!r} and {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} bytes in base64"
    )


def _key_of(secret: str) -> bytes:
    """Return the bytes that sign; none where ``secret`` is not one."""
    prefix, _, text = secret.partition("_")
    try:
        return base64.b64decode(text, validate=True) if f"{prefix}_" == SECRET_PREFIX else b""
    except (binascii.Error, ValueError):
        return b""


def parse_metadata(value: Any) -> str:
    """Return the metadata that a request wants to find again, as a record holds it. Raises RequestError."""
    if not isinstance(value, dict):
        raise RequestError("'metadata' must be an object")
    # In ASCII: a lone surrogate is JSON too, and has no bytes.
    text = json.dumps(value, separators=(",", ":"))
    if len(text) > MAX_METADATA_BYTES:
        raise RequestError(f"'metadata' may have {MAX_METADATA_BYTES} bytes as JSON in ASCII")
    return text


def owner_secret(settings: Settings, owner: str) -> str:
    """Return the secret that signs for an API token where a webhook brings none.

    It follows from one key, so nothing is stored for each token; the key is ``GRAYCAT_WEBHOOK_KEY``, or a file in
    ``home`` that is made at the first call.
    """
    key = settings.webhook_key or load_or_create(settings.home / "webhook-key", lambda: secrets.token_urlsafe(32))
    digest = hmac.digest(key.encode(), b"graycat webhook secret of " + owner.encode(), hashlib.sha256)
    return SECRET_PREFIX + base64.b64encode(digest).decode()


def message_id(task_id: str, event: str) -> str:
    """Return the id of what is told, the same at every try, by which a receiver knows it again."""
    return f"msg_{task_id}_{event}"


def signed(message: str, at_s: int, body: bytes, secret: str) -> dict[str, str]:
    """Return the headers that sign a body at a time in seconds."""
    content = f"{message}.{at_s}.".encode() + body
    signature = base64.b64encode(hmac.digest(_key_of(secret), content, hashlib.sha256)).decode()
    return {"webhook-id": message, "webhook-timestamp": str(at_s), "webhook-signature": f"v1,{signature}"}


def payload(task_id: str, event: str, fields: Mapping[str, str]) -> bytes:
    """Return what a receiver is told of a task or a batch, out of what a delivery keeps: no prompts, no answers."""
    data: dict[str, Any] = {"id": task_id, "kind": fields["kind"], "state": fields["task_state"]}
    data["status"] = int(fields["status"]) if fields.get("status") else None
    data |= {name: int(fields[name]) for name in TIMES if fields.get(name)}
    data["metadata"] = json.loads(fields["metadata"]) if fields.get("metadata") else None
    about = "batch" if fields["kind"] == "batch" else "task"
    if about == "batch":
        data |= {"name": fields["name"], "progress": json.loads(fields["progress"])}
    data["links"] = {about: f"/{'batches' if about == 'batch' else 'tasks'}/{task_id}"}
    at = datetime.fromtimestamp(int(fields["event_ms"]) / 1000, UTC).isoformat(timespec="milliseconds")
    told = {
        "type": f"{about}.{event}",
        "timestamp": at.replace("+00:00", "Z"),
        "data": data,
    }
    return json.dumps(told, separators=(",", ":")).encode()
