"""Writes a proxy's configuration as text."""

from __future__ import annotations

import json
import re
from dataclasses import asdict

from jinja2 import Environment, PackageLoader, StrictUndefined

from graycat import __version__
from graycat.edge.config import CADDY, HAPROXY, MARGIN_S, NGINX, EdgeConfig, duration

TEMPLATES = {NGINX: "nginx.conf", HAPROXY: "haproxy.cfg", CADDY: "Caddyfile"}

#: What a proxy says itself, by status, in graycat's form: type and message. Quotes and dollar signs would need care.
ERRORS = {
    400: ("malformed_request", "the request is not HTTP: mend the client"),
    408: ("request_timeout", "the request did not come in time: send it again"),
    413: ("body_too_large", "the request body is larger than this server takes"),
    414: ("uri_too_long", "the address of the request is too long"),
    429: ("too_many_connections", "this address has too many requests at a time: wait for some of them"),
    431: ("headers_too_large", "the headers of the request are too large"),
    500: ("proxy_error", "the proxy before the server has failed: try again"),
    502: ("server_unreachable", "the server does not answer, it may be starting: try again in a moment"),
    503: ("server_unreachable", "the server does not answer, it may be starting: try again in a moment"),
    504: ("proxy_timeout", "the server did not answer in time: submit long work as a task and poll it"),
}  # fmt: skip
#: Statuses after which a client may try again, and after how many seconds.
RETRY_AFTER_S = {429: 2, 502: 2, 503: 2}
#: What a caller's own X-Request-ID looks like; any other is replaced. It is that of graycat.web.
REQUEST_ID = "^[A-Za-z0-9._:-]{1,64}$"


def render(program: str, config: EdgeConfig) -> str:
    """Return the whole configuration of a program."""
    templates = Environment(
        loader=PackageLoader("graycat.edge"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        # Configurations are no HTML; what comes from outside is checked before (graycat.edge.config).
        autoescape=False,  # noqa: S701
    )
    templates.filters["duration"] = duration
    templates.filters["pattern"] = re.escape
    values = {
        **{name: getattr(config, name) for name in asdict(config)},
        "max_open_files": config.max_open_files,
        "has_names": config.has_names,
        "margin_s": MARGIN_S,
        "version": __version__,
        "errors": {status: error_body(status) for status in ERRORS},
        "retry_after_s": RETRY_AFTER_S,
        "request_id": REQUEST_ID,
    }
    return templates.get_template(TEMPLATES[program]).render(values)


def error_body(status: int) -> str:
    """Return what a proxy answers itself with a status: JSON, as graycat's own errors."""
    kind, message = ERRORS[status]
    return json.dumps({"error": {"code": status, "message": message, "type": kind}})
