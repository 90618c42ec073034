"""Streams whose web process dies, ends, stands still or is replaced: readers have every byte once, games an answer."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.support.browser import Window
from tests.support.following import Follower, Following, on_record, text_on_record
from tests.support.processes import assert_stays, eventually
from tests.support.stack import START_S
from tests.support.two_webs import Prober, TwoWebs
from tests.support.unity import V3Reader, send_post
from tests.support.unity_retries import Game

#: Tokens of a task, and seconds between two: a stream lasts for about four seconds.
TOKENS, TOKEN_S = 80, 0.05
TEXT = "".join(f"{number} " for number in range(TOKENS))
#: Seconds that a reader gets for its whole task, whatever happens meanwhile.
WHOLE_S = 90.0
READERS = 4
#: Seconds in which the work of a client that is gone ends; a busy machine gets more.
FREE_S = 60.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoWebs]:
    """Yield a broker, two web servers and a worker, whose engine has a slot for each reader."""
    options = f"--interval {TOKEN_S} --slots {READERS} --counts"
    started = TwoWebs(tmp_path_factory.mktemp("recovery"), options, GRAYCAT_KEEPALIVE_S="1")
    try:
        started.begin()
        started.start_worker()
        yield started
        started.stop()
    finally:
        started.kill_all()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4 * READERS) as threads:
        yield threads


class Readers:
    """Readers of tasks of their own, each in a thread; there when each has the beginning of its answer."""

    def __init__(self, stack: TwoWebs, name: str, pool: ThreadPoolExecutor, *urls: str, silence_s: float = 30) -> None:
        self.broker = stack.redis()
        self.tasks = {f"{name}-{number}": "" for number in range(READERS)}
        self.reads: list[Future[Following]] = []
        self.followers = []
        for task in self.tasks:
            self.tasks[task] = stack.submit(task, TOKENS)
            follower = Follower(urls or (stack.url,), f"/tasks/{task}", stack.token, silence_s=silence_s)
            self.followers.append(follower)
            self.reads.append(pool.submit(follower.read, WHOLE_S))
        eventually(lambda: all(len(follower.seen.events) > 5 for follower in self.followers), WHOLE_S)

    def check(self) -> list[Following]:
        """Check at the end that each has what is on record, once and in order; return what they have."""
        found = [read.result(WHOLE_S) for read in self.reads]
        for task_id, seen in zip(self.tasks.values(), found, strict=True):
            assert [(event_id, kind) for event_id, kind, _ in seen.events] == on_record(self.broker, task_id)
            assert seen.text == text_on_record(self.broker, task_id) == TEXT
            assert seen.kinds == ["started", "result"]
        return found


def kill_web(stack: TwoWebs) -> None:
    stack.signal_group("web", signal.SIGKILL)
    stack.start_again("web")


def end_web(stack: TwoWebs) -> None:
    stack.send_signal("web", signal.SIGTERM)
    stack.wait("web", START_S)
    stack.start_again("web")


def freeze_web(stack: TwoWebs) -> None:
    stack.signal_group("web", signal.SIGSTOP)
    assert_stays(lambda: stack.alive("web"), 1.5)
    stack.signal_group("web", signal.SIGCONT)


def kill_web_and_broker(stack: TwoWebs) -> None:
    server = stack.server_pid()
    stack.signal_group("broker", signal.SIGKILL)
    stack.signal_group("web", signal.SIGKILL)
    eventually(lambda: server not in stack.command_lines(), START_S)
    stack.start_again("broker", "web")


#: How often a reader connects, by what is done to its web server.
CONNECTIONS = {kill_web: 2, end_web: 2, freeze_web: 1, kill_web_and_broker: 2}


@pytest.mark.parametrize("fault", CONNECTIONS)
def test_readers_have_every_byte_once(stack: TwoWebs, pool: ThreadPoolExecutor, fault: Callable[..., None]) -> None:
    readers = Readers(stack, fault.__name__, pool)
    fault(stack)
    # Whoever submits its task again, because it has lost its place, has the same one.
    assert {name: stack.submit(name, TOKENS) for name in readers.tasks} == readers.tasks
    found = readers.check()
    # Else the fault came too late, or was none.
    assert {seen.connections for seen in found} == {CONNECTIONS[fault]}
    if fault is end_web:
        assert all(seen.own and "shutting_down" in seen.own[-1] for seen in found)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_readers_go_on_at_the_other_web_server(stack: TwoWebs, pool: ThreadPoolExecutor, number: int) -> None:
    readers = Readers(stack, f"other-{int(number)}", pool, stack.url, stack.other_url, silence_s=1.5)
    stack.signal_group("web", number)
    found = readers.check()
    stack.signal_group("web", signal.SIGCONT) if number == signal.SIGSTOP else stack.start_again("web")
    assert {seen.connections for seen in found} == {2}


def test_a_reader_of_an_earlier_attempt_is_told_that_the_answer_begins_anew(stack: TwoWebs) -> None:
    # A stop word, half of which may be in the engine: no other attempt can go on.
    task_id = stack.submit("anew", TOKENS, stop=["~~~"], stream=True)
    reader = Follower([stack.url], "/tasks/anew", stack.token)
    reader.read(WHOLE_S, lambda seen: len(seen.events) > 10)
    stack.signal_group("llm", signal.SIGKILL)
    stack.start_worker()
    seen = reader.read(WHOLE_S)
    assert seen.kinds == ["started", "started", "restarted", "result"]
    assert seen.text == text_on_record(stack.redis(), task_id) == TEXT


def test_games_whose_web_server_is_killed_get_their_answers_at_the_second_try(
    stack: TwoWebs, pool: ThreadPoolExecutor
) -> None:
    body = {"prompt": "game", "n_predict": 2 * TOKENS, "stream": True}
    games = [make(f"game-{make.__name__}-{number}") for make in (Game.v3, Game.v2) for number in range(READERS // 2)]
    plays = [pool.submit(game.play, stack.url, stack.token, body) for game in games]
    eventually(lambda: stack.running() == READERS, START_S)
    kill_web(stack)
    for play in plays:
        play.result(WHOLE_S)
    assert [game.answer and game.answer.tokens for game in games] == [list(range(2 * TOKENS))] * READERS
    for game in games:
        outcomes = [outcome for _, outcome in game.attempts]
        assert (outcomes[0], set(outcomes[1:]) <= {"refused"}) == ("broken", True)
        abandoned, answered = (stack.record(f"{game.name}.{number}") for number in (0, len(outcomes)))
        assert (abandoned["state"], answered["state"]) == ("cancelled", "succeeded")
        # Nobody reads the first any more: it ends in seconds.
        left_ms = int(abandoned["finished_ms"]) - int(answered["submitted_ms"])
        assert left_ms < FREE_S * 1000
    eventually(lambda: stack.running() == 0, FREE_S)


def test_games_whose_web_server_ends_are_told_and_their_first_try_ends_before_the_second(
    stack: TwoWebs, pool: ThreadPoolExecutor
) -> None:
    body = {"prompt": "told", "n_predict": TOKENS, "stream": True}
    game = Game.v3("told")
    play = pool.submit(game.play, stack.url, stack.token, body)
    eventually(lambda: stack.running() == 1, START_S)
    end_web(stack)
    play.result(WHOLE_S)
    assert game.answer is not None
    assert game.answer.tokens == list(range(TOKENS))
    assert game.attempts[0][1] == "error 503"
    first, last = stack.record("told.0"), stack.record(f"told.{len(game.attempts)}")
    assert first["state"] == "cancelled"
    assert int(first["finished_ms"]) <= int(last["submitted_ms"])


def test_others_have_their_turn_before_the_second_tries_of_a_killed_web_server_s_games(
    stack: TwoWebs, pool: ThreadPoolExecutor
) -> None:
    body = {"prompt": "many games", "n_predict": TOKENS, "stream": True}
    games = [Game.v2(f"many-{number}") for number in range(READERS * 2)]
    plays = [pool.submit(game.play, stack.url, stack.token, body) for game in games]
    eventually(lambda: stack.running() == READERS, START_S)
    kill_web(stack)
    neighbour = Game.v3("neighbour")
    neighbour.play(stack.other_url, stack.other_token, body | {"n_predict": 2})
    assert (neighbour.attempts, neighbour.answer is None) == ([], False)
    for play in plays:
        play.result(WHOLE_S)
    assert all(game.answer is not None for game in games)
    began = [int(stack.record(f"{game.name}.{len(game.attempts)}")["started_ms"]) for game in games]
    # At most one of theirs was in front, for each slot that became free at once.
    assert sum(ms < int(stack.record("neighbour.0")["started_ms"]) for ms in began) <= READERS
    eventually(lambda: stack.running() == 0, FREE_S)


#: A page's script: the events of a task as the browser's own EventSource gets them, until the last.
SCRIPT = """path => {
  window.seen = [];
  window.opened = 0;
  const source = new EventSource(path);
  source.onopen = () => { window.opened += 1; };
  const take = event => {
    // The connection's own `error` has no data: the browser comes back.
    if (event.data === undefined) return;
    window.seen.push([event.lastEventId, event.type]);
    if (["result", "error", "cancelled"].includes(event.type)) source.close();
  };
  for (const kind of ["started", "restarted", "chunk", "result", "error", "cancelled"])
    source.addEventListener(kind, take);
}"""


@pytest.mark.parametrize("fault", [kill_web, end_web])
def test_a_browser_s_event_source_has_every_event_once(
    stack: TwoWebs, new_window: Callable[..., Window], fault: Callable[[TwoWebs], None]
) -> None:
    # As behind a proxy that adds the API token: an EventSource can send none.
    window = new_window(extra_http_headers={"Authorization": f"Bearer {stack.token}"})
    assert window.open(f"{stack.url}/health") == 200
    task_id = stack.submit(f"browser-{fault.__name__}", 2 * TOKENS)
    window.page.evaluate(SCRIPT, f"/tasks/browser-{fault.__name__}/events")
    window.wait_for("window.seen.length > 5")
    fault(stack)
    eventually(lambda: window.page.evaluate("window.seen.at(-1)[1] === 'result'"), WHOLE_S)
    assert [tuple(event) for event in window.page.evaluate("window.seen")] == on_record(stack.redis(), task_id)
    assert window.page.evaluate("window.opened") == 2


def play(stack: TwoWebs, name: str) -> list[int]:
    """Return the tokens that a game gets of the second web server, which it asks once."""
    body = {"prompt": name, "n_predict": TOKENS, "stream": True}
    with send_post(stack.other_url, "/completion", body, stack.token) as connection:
        return V3Reader().read(connection).tokens


def replace_child(stack: TwoWebs) -> None:
    """Have gunicorn replace the process that serves (SIGHUP)."""
    old = stack.child_of_other()
    stack.send_signal("other", signal.SIGHUP)
    eventually(lambda: old not in stack.serving(), WHOLE_S)


def replace_all(stack: TwoWebs) -> None:
    """Start gunicorn anew on the same socket (SIGUSR2), and end the first one when the second has a process."""
    old = stack.serving()
    stack.send_signal("other", signal.SIGUSR2)
    eventually(lambda: len(stack.serving() - old) == 2, START_S)
    stack.send_signal("other", signal.SIGTERM)
    stack.wait("other", WHOLE_S)


@pytest.mark.parametrize("replace", [replace_child, replace_all])
def test_a_web_server_is_replaced_without_a_stream_cut_or_a_request_refused(
    stack: TwoWebs, pool: ThreadPoolExecutor, replace: Callable[[TwoWebs], None]
) -> None:
    with Prober(stack.other_url) as prober:
        games = [pool.submit(play, stack, f"game {number}") for number in range(READERS)]
        eventually(lambda: stack.running() == READERS, START_S)
        replace(stack)
        games.append(pool.submit(play, stack, "a later game"))
        assert [game.result(WHOLE_S) for game in games] == [list(range(TOKENS))] * (READERS + 1)
    assert (prober.failures, prober.count > 10) == ([], True)
