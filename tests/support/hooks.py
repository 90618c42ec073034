"""Webhooks as the unit tests see them: receivers with TLS, and callers that find them under any name."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import ssl
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graycat.broker.client import now_ms
from graycat.egress import Target, allowlist
from graycat.queue.records import TaskRecords
from graycat.webhooks.hooks import Hooks
from graycat.webhooks.http import PublicHttpClient
from graycat.webhooks.webhook import Webhook
from tests.support.servers import Seen

#: The name that the tests' certificate is for.
NAME = "receiver.test"
SECRET = "whsec_" + base64.b64encode(b"a secret of the tests, long enough").decode()


@dataclass(frozen=True)
class Certificate:
    """A self-signed certificate for NAME and 127.0.0.1."""

    file: Path
    key: Path

    @classmethod
    def made_in(cls, folder: Path) -> Certificate:
        certificate = cls(folder / "certificate.pem", folder / "key.pem")
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        command += ["-days", "2", "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME},IP:127.0.0.1"]
        command += ["-keyout", str(certificate.key), "-out", str(certificate.file)]
        subprocess.run(command, check=True, capture_output=True)
        return certificate

    def server(self) -> ssl.SSLContext:
        """Return a server's context."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.file, self.key)
        return context

    def client(self) -> ssl.SSLContext:
        """Return the context of a client that trusts this certificate and no other."""
        return ssl.create_default_context(cafile=str(self.file))


class Resolver:
    """Answers every look-up with the next of its answers, the last one for ever."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = list(answers)
        self.asked: list[tuple[str, int]] = []

    def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append((host, port))
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


def here(*_: Any) -> list[str]:
    """Resolve every name to this machine."""
    return ["127.0.0.1"]


#: Reading the system's authorities takes longer than most tests.
_TRUSTS_NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def webhook_client(allow: str = "127.0.0.0/8", **changes: Any) -> PublicHttpClient:
    """Return a caller that may call this machine, and finds every name there."""
    return PublicHttpClient(
        **{"allow": allowlist(allow), "tls": _TRUSTS_NOBODY, "resolve": here, "timeout_s": 5.0, **changes}
    )


def port_of(seen: Seen) -> int:
    return int(seen.url.rpartition(":")[2])


def target_of(seen: Seen, path: str = "/hook", host: str = NAME) -> Target:
    """Return where a receiver is, under a name."""
    return Target.from_url(f"{seen.url.partition(':')[0]}://{host}:{port_of(seen)}{path}")


def webhook_for(seen: Seen, *events: str, **changes: Any) -> str:
    """Return what the record of a task holds that a receiver is told of."""
    url = f"{seen.url}/hook"
    return Webhook(**{"url": url, "events": events or ("succeeded",), "secret": SECRET, **changes}).to_json()


def look(records: TaskRecords) -> None:
    """Make the deliveries of what has happened to tasks, as the control worker does."""
    client = records._client
    Hooks(client).observe(now_ms(client))


def verified(seen: Seen, number: int = -1, secret: str = SECRET) -> dict[str, Any]:
    """Return what a receiver was told, its signature checked as the specification says."""
    headers, body = seen.headers[number], seen.requests[number][2]
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = b".".join([headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body])
    expected = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    told: dict[str, Any] = json.loads(body)
    return told


def in_turn(*answers: Callable[[Any], None]) -> Callable[[Any], None]:
    """Return an answer that is each of ``answers`` in turn, the last one for ever."""
    left = list(answers)

    def answer(handler: Any) -> None:
        (left.pop(0) if len(left) > 1 else left[0])(handler)

    return answer
