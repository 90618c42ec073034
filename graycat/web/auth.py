"""Bearer authentication: the callbacks of Flask-HTTPAuth, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Protocol, TypeVar

from flask import Response, g
from flask_httpauth import HTTPBasicAuth, HTTPTokenAuth, MultiAuth

from graycat.auth.tokens import ADMIN, BATCH, METRICS, ApiToken
from graycat.errors import Forbidden, Unauthorized
from graycat.families import FAMILIES
from graycat.web.errors import error_response
from graycat.web.services import services

View = Callable[..., Any]

F = TypeVar("F", bound=Callable[..., Any])


class HttpAuth(Protocol):
    """The types of what graycat uses of Flask-HTTPAuth, which has none. Each decorator keeps its function's type."""

    def login_required(self, view: F, /) -> F: ...
    def verify_token(self, callback: F, /) -> F: ...
    def verify_password(self, callback: F, /) -> F: ...
    def error_handler(self, callback: F, /) -> F: ...
    def authenticate_header(self) -> str: ...


token_auth: HttpAuth = HTTPTokenAuth(scheme="Bearer")
basic_auth: HttpAuth = HTTPBasicAuth()
#: Bearer or HTTP Basic. WebUI clients can send only the latter: any user name, with the API token as the password.
any_auth: HttpAuth = MultiAuth(token_auth, basic_auth)


@token_auth.verify_token
def verify_token(secret: str) -> ApiToken | None:
    """Return the API token that the request sends, or None if graycat does not know it."""
    token = services().authenticator.find(secret)
    if token is not None:
        g.token = token
        g.owner = token.name
    return token


@basic_auth.verify_password
def verify_password(_user: str, password: str) -> ApiToken | None:
    """Return the API token that the request sends as a password."""
    return verify_token(password)


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


_PURPOSES = {
    **{family.scope: family.purpose for family in FAMILIES},
    BATCH: "takes bulk work",
    ADMIN: "changes what all callers share",
    METRICS: "shows what all callers do",
}


@basic_auth.error_handler
@token_auth.error_handler
def unauthorized(_status: int) -> Response:
    """Answer a request without a valid API token."""
    return error_response(Unauthorized("send your API token as 'Authorization: Bearer TOKEN'"))
