"""The C# of examples/unity, also as a component, against a server that refuses, breaks off and falls silent."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import mono
from tests.support.scripted import error, respond_in_turn
from tests.support.servers import Answer, Handler, Seen, drop, hold, http_server, reply, stream
from tests.support.stack import ROOT, free_ports

CHAT = "POST /v1/chat/completions"
#: Characters that talk at the same time.
MOST = 8
DONE = b"data: [DONE]\n\n"


def piece(text: str) -> bytes:
    """Return an event of a chat's stream."""
    return b"data: " + json.dumps({"choices": [{"delta": {"content": text}}]}, ensure_ascii=False).encode() + b"\n\n"


#: A proxy may cut and join chunks as it likes, and graycat sends comments while nothing comes.
WHOLE = stream(b": \n\n", piece("Wel")[:9], piece("Wel")[9:] + piece("come 🦊"), DONE)


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the console program of the example."""
    return mono.compiled(tmp_path_factory.mktemp("unity"), mono.SOURCES / "Program.cs")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a scene whose character is the example's component."""
    sources = (mono.SOURCES / "GraycatBehaviour.cs", mono.FAKES / "UnityEngine.cs", mono.FAKES / "Scene.cs")
    return mono.compiled(tmp_path_factory.mktemp("unity"), *sources)


Talk = Callable[..., tuple[int, str, str, Seen]]


@pytest.fixture
def talk(example: Path) -> Talk:
    """Return a function that talks to a server which gives these answers in turn."""

    def ask(*answers: Answer, say: str = "Hello\n") -> tuple[int, str, str, Seen]:
        with http_server({CHAT: respond_in_turn(*answers)}) as seen:
            status, printed, errors = mono.run(example, "chat", say=say, GRAYCAT=seen.url, TOKEN="gp_1")
        return status, printed, errors, seen

    return ask


def test_an_answer_comes_whole_however_it_is_cut(talk: Talk) -> None:
    status, printed, errors, seen = talk(WHOLE)
    assert (status, printed, errors) == (0, "Welcome 🦊\n", "")
    assert seen.bodies() == [{"max_tokens": 64, "messages": [{"role": "user", "content": "Hello"}], "stream": True}]
    assert seen.headers[0]["authorization"] == "Bearer gp_1"
    assert "expect" not in seen.headers[0]


def test_what_is_refused_for_a_moment_is_asked_again_after_that_moment(talk: Talk) -> None:
    refused = [(429, "limit_exceeded", "1"), (503, "queue_full", "0"), (502, "server_unreachable", "0")]
    answers = [answer for code, kind, after in refused for answer in (error(code, kind, Retry_After=after), WHOLE)]
    started = time.monotonic()
    status, printed, errors, seen = talk(*answers, say="Hello\n" * 3)
    assert (status, printed, errors, len(seen.requests)) == (0, "Welcome 🦊\n" * 3, "", 6)
    assert time.monotonic() - started >= 1


def test_what_waiting_does_not_help_is_told_at_once(talk: Talk) -> None:
    event = stream(b'data: {"error": {"code": 502, "message": "gone", "type": "engine_lost"}}\n\n')
    told = [
        (error(429, "limit_exceeded", Retry_After="60"), "429 limit_exceeded: it is limit_exceeded"),
        (error(429, "limit_exceeded"), "429 limit_exceeded: it is limit_exceeded"),
        (error(400, "invalid_request_error"), "400 invalid_request_error: it is invalid_request_error"),
        (reply(502, b"<html>Bad Gateway</html>"), "502 server_error: HTTP 502"),
        (event, "502 engine_lost: gone"),
    ]
    status, printed, errors, seen = talk(*(answer for answer, _ in told), say="Hello\n" * len(told))
    assert (status, printed, errors.splitlines()) == (1, "", [line for _, line in told])
    assert [body["messages"] for body in seen.bodies()] == [[{"role": "user", "content": "Hello"}]] * len(told)


def test_a_line_that_breaks_keeps_what_came_and_sends_nothing_twice(talk: Talk) -> None:
    status, printed, errors, seen = talk(stream(piece("Wel"), then=drop), stream(piece("come")), say="Hello\n" * 2)
    assert (status, printed, len(seen.requests)) == (1, "Welcome", 2)
    assert re.fullmatch("0 connection_lost: .+\n0 connection_lost: the answer broke off\n", errors)


def test_a_silent_line_is_given_up_and_closed(example: Path) -> None:
    with http_server({CHAT: stream(piece("Wel"), then=hold)}) as seen:
        env = {"GRAYCAT": seen.url, "TOKEN": "gp_1", "SILENCE_S": "1"}
        assert mono.run(example, "chat", say="Hello\n", **env)[1:] == (
            "Wel",
            "0 connection_lost: nothing came for 1 s\n",
        )
        assert seen.hung_up.wait(mono.PATIENCE_S)


def test_a_server_that_is_gone_is_tried_until_patience_ends(example: Path) -> None:
    env = {"GRAYCAT": f"http://127.0.0.1:{free_ports(1)[0]}", "TOKEN": "gp_1", "PATIENCE_S": "0.6"}
    status, _, errors = mono.run(example, "chat", say="Hello\n", **env)
    assert status == 1
    assert errors.startswith(f"0 connection_lost: {env['GRAYCAT']} does not answer: ")


@pytest.mark.parametrize(
    ("words", "env", "told"),
    [
        ((), {"TOKEN": "gp_1"}, "usage: "),
        (("chat",), {}, "no token: set TOKEN "),
        (("chat",), {"TOKEN": "gp_1", "GRAYCAT": "127.0.0.1:8000"}, "'127.0.0.1:8000/' is no address: "),
        (("chat",), {"GAME_SESSION": "s1", "GAME_SERVER": "/token"}, "'/token' is no address: "),
    ],
    ids=["nothing", "no token", "no scheme", "a path"],
)
def test_what_is_missing_is_one_line(example: Path, words: tuple[str, ...], env: dict[str, str], told: str) -> None:
    settings = {"TOKEN": "", "GAME_SESSION": ""} | env
    status, printed, errors = mono.run(example, *words, **settings)
    assert (status, printed, len(errors.splitlines())) == (2, "", 1)
    assert errors.startswith(told)


def test_a_token_is_renewed_once_it_is_refused_or_about_to_end(example: Path) -> None:
    lives = {1: 300, 2: 29, 3: 300, 4: 300}
    minted = respond_in_turn(
        error(503, "broker_unavailable", Retry_After="0"),
        *(reply(201, {"token": f"gp_{number}", "expires_in_s": lives[number]}) for number in lives),
    )
    expired = error(401, "token_expired")
    # Four turns: refused and renewed; about to end; as it is; refused twice.
    chats = respond_in_turn(expired, WHOLE, WHOLE, WHOLE, expired, expired)
    with http_server({"POST /token": minted, CHAT: chats}) as seen:
        env = {"GRAYCAT": seen.url, "GAME_SERVER": f"{seen.url}/token", "GAME_SESSION": "session-1"}
        talked = mono.run(example, "chat", say="Hello\n" * 4, **env)
    assert talked == (1, "Welcome 🦊\n" * 3, "401 token_expired: it is token_expired\n")
    sent = [headers["authorization"].removeprefix("Bearer ") for headers in seen.headers]
    mine = "session-1"
    assert sent == [mine, mine, "gp_1", mine, "gp_2", mine, "gp_3", "gp_3", "gp_3", mine, "gp_4"]


def event(number: int, name: str, data: object) -> bytes:
    """Return one of a task's events."""
    return f"id: {number}-0\nevent: {name}\ndata: {json.dumps(data)}\n\n".encode()


def test_an_image_outlives_a_lost_line(example: Path, tmp_path: Path) -> None:
    begun = stream(event(1, "started", {"attempt": 1}), event(2, "progress", {"progress": 0.5}), then=drop)
    ended = stream(event(3, "unknown", {}), event(4, "result", {}))
    answers = {
        "POST /tasks": respond_in_turn(error(503, "queue_full", Retry_After="0"), reply(202, {"id": "abc"})),
        "GET /tasks/abc/events": respond_in_turn(begun, ended),
        "GET /tasks/abc/images/0": reply(200, b"PNG"),
    }
    with http_server(answers) as seen:
        made = mono.run(example, "image", "a fox", str(tmp_path / "fox.png"), GRAYCAT=seen.url, TOKEN="gp_1")
    assert made == (0, "0.5\n3 bytes\n", "")
    assert (tmp_path / "fox.png").read_bytes() == b"PNG"
    keys = [headers["idempotency-key"] for headers in seen.headers if "idempotency-key" in headers]
    assert len(keys) == 2
    assert len(set(keys)) == 1
    assert [headers.get("last-event-id") for headers in seen.headers[2:4]] == [None, "2-0"]


def test_characters_talk_at_the_same_time(tmp_path: Path) -> None:
    together = threading.Barrier(MOST, timeout=mono.PATIENCE_S)

    def answer(handler: Handler) -> None:
        together.wait()
        WHOLE(handler)

    crowd = mono.compiled(tmp_path, mono.FAKES / "Crowd.cs")
    with http_server({CHAT: answer}) as seen:
        assert mono.run(crowd, seen.url, str(MOST)) == (0, "Welcome 🦊\n" * MOST, "")


def test_the_guide_s_own_code_compiles(tmp_path: Path) -> None:
    guide = (ROOT / "docs" / "unity.md").read_text()
    blocks = re.findall(r"^```csharp\n(.*?)^```$", guide, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 2
    (tmp_path / "Guide.cs").write_text(
        "\n".join(blocks) + "public static class Program { public static void Main() {} }"
    )
    mono.compiled(tmp_path, tmp_path / "Guide.cs", mono.FAKES / "LLMUnity.cs")


def test_the_first_script_of_the_example_s_readme_talks(tmp_path: Path) -> None:
    (script,) = re.findall(
        r"^```csharp\n(.*?)^```$", (mono.SOURCES / "README.md").read_text(), re.DOTALL | re.MULTILINE
    )
    with http_server({CHAT: WHOLE}) as seen:
        (tmp_path / "Innkeeper.cs").write_text(script.replace("http://127.0.0.1:8000", seen.url))
        fakes = (mono.FAKES / "UnityEngine.cs", mono.FAKES / "FirstScript.cs")
        made = mono.compiled(tmp_path, mono.SOURCES / "GraycatBehaviour.cs", tmp_path / "Innkeeper.cs", *fakes)
        assert mono.run(made) == (0, "Wel\ncome 🦊\n(done)\n", "")
    assert seen.headers[0]["authorization"] == "Bearer gc_..."
    assert seen.bodies()[0]["messages"][-1]["content"] == "Do you have a room for the night?"


def play(scene: Path, *answers: Answer, questions: tuple[str, ...]) -> tuple[list[str], Seen]:
    """Return what a scene prints, and what its server has seen."""
    minted = reply(201, {"token": "gp_1", "expires_in_s": 300})
    with http_server({"POST /token": minted, CHAT: respond_in_turn(*answers)}) as seen:
        status, printed, errors = mono.run(scene, seen.url, *questions)
    assert (status, errors) == (0, "")
    return printed.splitlines(), seen


def test_a_character_remembers_what_was_said_and_calls_on_the_main_thread(scene: Path) -> None:
    printed, seen = play(scene, WHOLE, WHOLE, questions=("Hello", "A room?"))
    assert printed == ["text Wel", "text come 🦊", "done"] * 2
    said = [(message["role"], message["content"]) for message in seen.bodies()[-1]["messages"][1:]]
    assert said == [("user", "Hello"), ("assistant", "Welcome 🦊"), ("user", "A room?")]


def test_the_next_question_stops_the_answer_to_the_one_before(scene: Path) -> None:
    printed, seen = play(scene, stream(piece("Wel"), then=hold), WHOLE, WHOLE, questions=("Hello", "!Stop", "Well?"))
    assert sorted(printed) == sorted(["text Wel", "done", *["text Wel", "text come 🦊", "done"] * 2])
    said = [message["content"] for message in seen.bodies()[-1]["messages"][1:]]
    assert said == ["Hello", "Wel", "!Stop", "Welcome 🦊", "Well?"]


def test_a_player_reads_a_sentence_and_the_log_has_the_error(scene: Path) -> None:
    printed, seen = play(scene, error(429, "limit_exceeded", Retry_After="60"), WHOLE, questions=("Hello", "Hello?"))
    warned = "warning graycat: 429 limit_exceeded: it is limit_exceeded"
    assert printed == [warned, "failed You are quick! Wait a moment.", "text Wel", "text come 🦊", "done"]
    assert [message["content"] for message in seen.bodies()[-1]["messages"][1:]] == ["Hello?"]
