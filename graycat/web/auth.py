"""Bearer authentication: the callbacks of Flask-HTTPAuth, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

from flask import Response, current_app, g
from flask_httpauth import HTTPBasicAuth, HTTPTokenAuth, MultiAuth

from graycat.apitokens import ApiToken
from graycat.errors import Forbidden, Unauthorized
from graycat.web.errors import error_response

token_auth = HTTPTokenAuth(scheme="Bearer")
basic_auth = HTTPBasicAuth()
#: Also by HTTP Basic, all that WebUI clients can send: any user name, the API token as password.
any_auth = MultiAuth(token_auth, basic_auth)


@token_auth.verify_token
def verify_token(secret: str) -> ApiToken | None:
    """Return the API token that the request carries, if it is one of ours."""
    token: ApiToken | None = current_app.extensions["graycat"].tokens.find(secret)
    if token is not None:
        g.owner = token.name
    return token


@basic_auth.verify_password
def verify_password(_user: str, password: str) -> ApiToken | None:
    """Return the API token that the request carries as a password."""
    return verify_token(password)


def admin_required(view: Callable[[], Response]) -> Callable[[], Response]:
    """Refuse API tokens without the admin scope; goes inside ``login_required``."""

    @wraps(view)
    def guarded() -> Response:
        if not any_auth.current_user().admin:
            raise Forbidden("this route changes an engine's state and needs an API token with the admin scope")
        return view()

    return guarded


@basic_auth.error_handler
@token_auth.error_handler
def unauthorized(_status: int) -> Response:
    """Answer a request without a valid API token."""
    return error_response(Unauthorized("send your API token as 'Authorization: Bearer TOKEN'"))
