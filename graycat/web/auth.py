"""Authentication: what Flask-HTTPAuth needs of graycat, and nothing else.

An API token comes as ``Authorization: Bearer TOKEN`` (RFC 6750), as ``X-Api-Key: TOKEN`` (clients of llama.cpp and
Anthropic), or on some routes as the password of HTTP Basic.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

from flask import Response, g, request
from flask_httpauth import HTTPBasicAuth, HTTPTokenAuth, MultiAuth
from werkzeug.datastructures import Authorization

from graycat.auth.errors import ConflictingCredentials
from graycat.auth.tokens import ADMIN, BATCH, INSPECT, METRICS, ApiToken
from graycat.errors import Forbidden, RequestError, Unauthorized
from graycat.families import FAMILIES
from graycat.web.errors import error_response
from graycat.web.services import services

View = Callable[..., Any]

F = TypeVar("F", bound=Callable[..., Any])

#: Another header for an API token.
API_KEY = "X-Api-Key"


class HttpAuth(Protocol):
    """The types of what graycat uses of Flask-HTTPAuth, which has none. Each decorator keeps its function's type."""

    def login_required(self, view: F, /) -> F: ...
    def verify_token(self, callback: F, /) -> F: ...
    def verify_password(self, callback: F, /) -> F: ...
    def error_handler(self, callback: F, /) -> F: ...
    def authenticate_header(self) -> str: ...

    def get_auth(self) -> Authorization | None: ...


class TokenAuth(HTTPTokenAuth):
    """A bearer token, or the API token of the header ``X-Api-Key``."""

    def is_compatible_auth(self, headers: Any) -> bool:
        """Return whether the request sends such a token, rather than a password."""
        if not has_credentials():
            return API_KEY in headers
        return bool(super().is_compatible_auth(headers))

    def get_auth(self) -> Authorization | None:
        """Return the token of the request, None if it sends none."""
        found: Authorization | None = None
        if has_credentials():
            found = super().get_auth()
        key = api_key()
        if found is None and key:
            found = Authorization(self.scheme, token=key)
        return found


def has_credentials() -> bool:
    """Return whether ``Authorization`` is more than ``Bearer`` alone, which clients send that have no token for it."""
    return request.headers.get("Authorization", "").strip().lower() not in ("", "bearer")


def api_key() -> str:
    """Return the token of ``X-Api-Key``, '' if there is none. As in llama.cpp's server, ``Bearer`` may precede it."""
    key = request.headers.get(API_KEY, "").strip()
    scheme, _, token = key.partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return key


token_auth: HttpAuth = TokenAuth(scheme="Bearer")
basic_auth: HttpAuth = HTTPBasicAuth()
#: Bearer or HTTP Basic. WebUI clients can send only the latter: any user name, with the API token as the password.
any_auth: HttpAuth = MultiAuth(token_auth, basic_auth)


@token_auth.verify_token
def verify_token(secret: str) -> ApiToken | None:
    """Return the API token that the request sends; None if it may not call, and ``unauthorized`` says why."""
    key = api_key()
    if key and key != secret:
        g.refusal = ConflictingCredentials()
        return None
    authenticator = services().authenticator
    token = authenticator.find(secret)
    if token is None:
        if secret:
            g.refusal = authenticator.explain(secret)
        return None
    g.token = token
    g.owner = token.name
    return token


@basic_auth.verify_password
def verify_password(_user: str, password: str) -> ApiToken | None:
    """Return the API token that the request sends as a password; None for pages of other origins.

    A browser that knows a password sends it by itself, also for a page of another site that only makes it send a
    request: CORS keeps such a page from the answer, not from what the request does.
    """
    if is_cross_origin():
        g.refusal = Forbidden(
            "a web page of another origin may send an API token as 'Authorization: Bearer TOKEN' only"
        )
        return None
    return verify_token(password)


def is_cross_origin() -> bool:
    """Return whether the request is sent by a web page of another origin. Browsers say so of all but plain GETs."""
    origin = request.headers.get("Origin")
    if origin is None:
        return request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site")
    public = urlsplit(services().settings.public_base)
    return origin not in (f"{request.scheme}://{request.host}", f"{public.scheme}://{public.netloc}")


def scope_required(scope: str) -> Callable[[View], View]:
    """Refuse API tokens without a scope; the decorator goes inside ``login_required``."""

    def guard(view: View) -> View:
        @wraps(view)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            require_scope(scope)
            return view(*args, **kwargs)

        return guarded

    return guard


def require_scope(scope: str) -> None:
    """Raise Forbidden if the request's API token lacks a scope."""
    if scope not in g.token.scopes:
        raise Forbidden(f"this route {_PURPOSES[scope]} and needs an API token with the scope {scope!r}")


def is_admin() -> bool:
    """Return whether the request's API token has the scope ``admin``."""
    return ADMIN in g.token.scopes


_PURPOSES = {
    **{family.scope: family.purpose for family in FAMILIES},
    BATCH: "takes bulk work",
    ADMIN: "changes what all callers share",
    METRICS: "shows what all callers do",
    INSPECT: "shows what others ask and get",
}


@basic_auth.error_handler
@token_auth.error_handler
def unauthorized(_status: int) -> Response:
    """Answer a request without a valid API token."""
    refusal: RequestError = g.get("refusal") or Unauthorized("send your API token as 'Authorization: Bearer TOKEN'")
    return error_response(refusal)
