"""A game's own server, as small as it can be: it mints players' tokens with its key of graycat, and serves the page.

Needs Flask and requests. The key (GRAYCAT_TOKEN) stays here; the game has a session of its own, and gets a token that
ends after TTL_S. In a real game ``player_of`` asks what knows its players; here it is GAME_SESSIONS=SESSION:PLAYER,...
"""

import os

import requests
from flask import Flask, Response, request

GRAYCAT, KEY = os.environ.get("GRAYCAT", "http://127.0.0.1:8000"), os.environ["GRAYCAT_TOKEN"]
SESSIONS = dict(entry.split(":", 1) for entry in os.environ["GAME_SESSIONS"].split(","))
#: Seconds that a token lives, 60 at least. Short, as one player's token cannot be revoked.
TTL_S = 300
#: What a player may do, below what the game's own token may. A turn of LLM for Unity v3 is four to six requests.
LIMITS = {"rate": 60, "concurrency": 2, "max_tokens": 512}

app = Flask(__name__, static_folder="webgl", static_url_path="/game")


def player_of(session: str) -> str | None:
    """Return which player a session belongs to; None if it is nobody's."""
    return SESSIONS.get(session)


def refuse(status: int, kind: str, message: str, **headers: str) -> tuple[dict[str, object], int, dict[str, str]]:
    """Return an error in graycat's form, so that a game needs to know one."""
    return {"error": {"code": status, "type": kind, "message": message}}, status, headers


@app.post("/token")
def token() -> Response | tuple[dict[str, object], int] | tuple[dict[str, object], int, dict[str, str]]:
    """Mint a token for the player who asks."""
    player = player_of(request.headers.get("Authorization", "").removeprefix("Bearer "))
    if player is None:
        return refuse(401, "not_logged_in", "log in first")
    # Without "scopes" a player may chat, and make images, as far as the key may.
    asked = {"player": player, "ttl_s": TTL_S, "limits": LIMITS}
    try:
        answer = requests.post(
            f"{GRAYCAT}/tokens/player", json=asked, headers={"Authorization": f"Bearer {KEY}"}, timeout=10
        )
    except requests.RequestException:
        app.logger.warning("%s does not answer; GRAYCAT names another address", GRAYCAT)
        return refuse(503, "server_unreachable", "graycat does not answer", **{"Retry-After": "2"})
    if answer.status_code in (401, 403):
        # The game's own key is wrong: no player can mend that by logging in again.
        app.logger.error("%s refuses GRAYCAT_TOKEN: %s", GRAYCAT, answer.text)
        return refuse(500, "game_key_refused", "graycat refuses the game's own key; the game's server logs why")
    if answer.status_code != 201:
        # Its 429 and 503 say in Retry-After when to come back; the game waits for it as for graycat itself.
        kept = {name: answer.headers[name] for name in ("Content-Type", "Retry-After") if name in answer.headers}
        return Response(answer.content, answer.status_code, kept)
    # Seconds from now on, as a player's clock may be wrong.
    return {"token": answer.json()["token"], "expires_in_s": TTL_S, "server": GRAYCAT}, 201
