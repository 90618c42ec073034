"""Webhooks: what a request may ask for, what a receiver gets, and its signature (headers of Standard Webhooks)."""

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

from graycat.bounds.names import suggest
from graycat.bounds.stored import parse_json
from graycat.egress import Target, allowlist
from graycat.errors import RequestError
from graycat.queue.models import TERMINAL_STATES
from graycat.settings import Settings
from graycat.settings.secretfiles import load_or_create
from graycat.webhooks.errors import InvalidWebhook

#: The events of a webhook: a task's first start, and its end. ``queue/lua/conclude.lua`` has the same names.
EVENTS = ("started", *TERMINAL_STATES)
DEFAULT_EVENTS = TERMINAL_STATES

FIELDS = ("url", "events", "secret")
SECRET_PREFIX = "whsec_"  # noqa: S105 (the prefix of every secret)
MIN_SECRET_BYTES = 24
MAX_SECRET_BYTES = 64
#: The longest metadata of a task, as JSON.
MAX_METADATA_BYTES = 16 * 1024
#: Times of a record that the receiver gets.
_TIME_FIELDS = ("submitted_ms", "started_ms", "finished_ms")


@dataclass(frozen=True, slots=True)
class Webhook:
    """The address that receives a task's events. ``secret``: empty if the API token's secret signs."""

    url: str = field(repr=False)
    events: tuple[str, ...] = DEFAULT_EVENTS
    secret: str = field(default="", repr=False)

    @property
    def target(self) -> Target:
        """Return the parsed address."""
        return Target.from_url(self.url)

    def to_json(self) -> str:
        """Return the webhook as a record stores it, with its secret."""
        return json.dumps({"url": self.url, "events": self.events, "secret": self.secret})

    def to_view(self) -> dict[str, Any]:
        """Return what the owner sees: all but the secret."""
        return {"url": self.url, "events": list(self.events)}

    @classmethod
    def from_json(cls, text: str | bytes) -> Webhook:
        """Return the webhook that a record stores."""
        values = parse_json(text)
        return cls(values["url"], tuple(values["events"]), values["secret"])


def parse(value: Any, settings: Settings) -> Webhook:
    """Return the webhook that a request asks for. Raises InvalidWebhook.

    The host's name is not resolved here: each call checks whether its address is public.
    """
    if not isinstance(value, dict) or not isinstance(value.get("url"), str):
        raise InvalidWebhook('\'webhook\' must be an object: {"url": "https://...", "events": [...], "secret": ...}')
    unknown = sorted(value.keys() - set(FIELDS))
    if unknown:
        raise InvalidWebhook(f"'webhook' has no field {unknown[0][:40]!r}; {suggest(unknown[0], FIELDS)}")
    try:
        complaint = allowlist(settings.webhook_allow).complaint(Target.from_url(value["url"]))
    except ValueError as error:
        complaint = str(error)
    if complaint:
        raise InvalidWebhook(f"'webhook.url' {complaint}")
    return Webhook(value["url"], _parse_events(value.get("events")), _parse_secret(value.get("secret")))


def _parse_events(value: Any) -> tuple[str, ...]:
    if value is None:
        return DEFAULT_EVENTS
    if not isinstance(value, list) or not value or not all(event in EVENTS for event in value):
        raise InvalidWebhook(f"'webhook.events' must be a list out of {', '.join(EVENTS)}")
    return tuple(event for event in EVENTS if event in value)


def _parse_secret(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str) and MIN_SECRET_BYTES <= len(_decode_secret(value)) <= MAX_SECRET_BYTES:
        return value
    raise InvalidWebhook(
        f"'webhook.secret' must be {SECRET_PREFIX!r} and {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} bytes in base64"
    )


def _decode_secret(secret: str) -> bytes:
    """Return the key in a secret; no bytes if it has another form."""
    if not secret.startswith(SECRET_PREFIX):
        return b""
    try:
        return base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return b""


def parse_metadata(value: Any) -> str:
    """Return a request's metadata as a record stores it. Raises RequestError."""
    if not isinstance(value, dict):
        raise RequestError("'metadata' must be an object")
    # In ASCII: JSON allows a lone surrogate, which cannot be encoded as UTF-8.
    text = json.dumps(value, separators=(",", ":"))
    if len(text) > MAX_METADATA_BYTES:
        raise RequestError(f"'metadata' may have {MAX_METADATA_BYTES} bytes as JSON in ASCII")
    return text


def owner_secret(settings: Settings, owner: str) -> str:
    """Return the secret of an API token, which signs if a webhook has none of its own.

    All such secrets are derived from one key, so none is stored. The key is ``GRAYCAT_WEBHOOK_KEY``, or a file in
    ``home`` that the first call creates.
    """
    key = settings.webhook_key
    if not key:
        key = load_or_create(settings.home / "webhook-key", lambda: secrets.token_urlsafe(32))
    digest = hmac.digest(key.encode(), b"graycat webhook secret of " + owner.encode(), hashlib.sha256)
    return SECRET_PREFIX + base64.b64encode(digest).decode()


def message_id(task_id: str, event: str) -> str:
    """Return the id of a message. It is the same in every attempt, so a receiver can drop what it has already."""
    return f"msg_{task_id}_{event}"


def sign(message_id: str, at_s: int, body: bytes, secret: str) -> dict[str, str]:
    """Return the headers that sign a body; ``at_s``: the time of the attempt, in seconds."""
    content = f"{message_id}.{at_s}.".encode() + body
    signature = base64.b64encode(hmac.digest(_decode_secret(secret), content, hashlib.sha256)).decode()
    return {"webhook-id": message_id, "webhook-timestamp": str(at_s), "webhook-signature": f"v1,{signature}"}


def build_payload(task_id: str, event: str, fields: Mapping[str, str], base_url: str = "") -> bytes:
    """Return the body about a task or a batch, from the fields of a delivery. It has no prompts and no answers.

    ``base_url``: what stands in front of the paths of its links.
    """
    is_batch = fields["kind"] == "batch"
    subject = "batch" if is_batch else "task"
    data: dict[str, Any] = {"id": task_id, "kind": fields["kind"], "state": fields["task_state"], "status": None}
    if fields.get("status"):
        data["status"] = int(fields["status"])
    for name in _TIME_FIELDS:
        if fields.get(name):
            data[name] = int(fields[name])
    data["metadata"] = None
    if fields.get("metadata"):
        data["metadata"] = parse_json(fields["metadata"])
    if is_batch:
        data["name"] = fields["name"]
        data["progress"] = parse_json(fields["progress"])
        data["links"] = {"batch": f"{base_url}/batches/{task_id}"}
    else:
        data["links"] = {"task": f"{base_url}/tasks/{task_id}"}

    event_at = datetime.fromtimestamp(int(fields["event_ms"]) / 1000, UTC)
    payload = {
        "type": f"{subject}.{event}",
        "timestamp": event_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "data": data,
    }
    return json.dumps(payload, separators=(",", ":")).encode()
