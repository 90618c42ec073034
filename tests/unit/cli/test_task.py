"""``graycat task``, on the web application behind a real socket."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner, Result

from graycat.cli import cli
from graycat.cli.task import build_input
from graycat.errors import TaskTimeout
from graycat.storage.redis_artifacts import BrokerArtifacts
from tests.support.helpers import SECRET, free_port, outcome_of, sse, started

Graycat = Callable[..., Result]


@pytest.fixture
def graycat(live, monkeypatch, tmp_path) -> Graycat:
    """Return how to run ``graycat task``, with the settings of the live server's machine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PORT", str(urlsplit(live.url).port))
    monkeypatch.setenv("API_TOKENS", f"tests:{SECRET}")

    def invoke(*words: str, stdin: str = "", patience_s: float = 5.0) -> Result:
        options = [] if "--help" in words else [f"--patience={patience_s}"]
        result = CliRunner().invoke(cli, ["task", *words, *options], input=stdin, catch_exceptions=False)
        assert SECRET not in result.output
        return result

    return invoke


@pytest.fixture
def rendered(broker, records) -> str:
    """Return the id of a task that has ended with an image."""
    attempt = started(records, kind="sd.txt2img", queue="sd", shown={})
    BrokerArtifacts(broker.client, 60).put(attempt.task_id, 0, b"\x89PNG\r\n\x1a\n one", "image/png", "tests")
    records.report_progress(attempt, b'{"progress": 0.5, "step": 10, "steps": 20, "eta_s": 2.0}')
    records.succeed(attempt, 200, b'{"images": [{"artifact": 0}]}')
    return attempt.task_id


def input_of(records, task_id: str) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(records.body(task_id))
    return fields


def test_a_submitted_task_s_id_is_all_that_is_printed(graycat: Graycat, records) -> None:
    result = graycat("submit", "llm.completion", "--prompt", "Hi", "--set", "n_predict=4", "--priority", "batch")
    assert (result.exit_code, result.stderr) == (0, "")
    task_id = result.stdout.strip()
    record = records.get(task_id)
    assert (record["state"], record["priority"], record["queue"]) == ("queued", "batch", "llm.batch")
    assert input_of(records, task_id) == {"prompt": "Hi", "n_predict": 4, "stream": True}


def test_an_input_comes_from_the_command_line_a_file_or_stdin(graycat: Graycat, records, tmp_path) -> None:
    (tmp_path / "input.json").write_text('{"content": "file"}')
    for given, stdin in (('{"content": "text"}', ""), ("@input.json", ""), ("-", '{"content": "pipe"}')):
        result = graycat("submit", "llm.tokenize", "--input", given, stdin=stdin)
        assert input_of(records, result.stdout.strip())["content"] in ("text", "file", "pipe")


@pytest.mark.parametrize("option", ["--key", "--id"])
def test_the_same_key_or_id_is_the_same_task(graycat: Graycat, option: str) -> None:
    words = ("submit", "llm.completion", "--prompt", "Hi", option, "night-1")
    assert graycat(*words).stdout == graycat(*words).stdout
    assert graycat("list").stdout.count("llm.completion") == 1


def test_a_prompt_goes_into_the_kind_s_field() -> None:
    assert build_input("llm.completion", None, "Hi", ()) == {"prompt": "Hi"}
    assert build_input("llm.chat", '{"n": 1}', "Hi", ()) == {"n": 1, "messages": [{"role": "user", "content": "Hi"}]}
    assert build_input("llm.tokenize", None, "Hi", ()) == {"content": "Hi"}


def test_a_set_value_is_json_if_it_can_be() -> None:
    settings = ("a=1", "b=true", "c=word", 'd="1"', "e=[1,2]", "f=x=y", "g=")
    expected = {"a": 1, "b": True, "c": "word", "d": "1", "e": [1, 2], "f": "x=y", "g": ""}
    assert build_input("llm.chat", None, None, settings) == expected


@pytest.mark.parametrize(
    "words",
    [
        ("submit", "llm.completion", "--input", "{"),
        ("submit", "llm.completion", "--input", "[1]"),
        ("submit", "llm.completion", "--input", "@nowhere.json"),
        ("submit", "llm.completion", "--set", "n_predict"),
        ("submit", "llm.completion", "--set", "temperature=NaN"),
        ("submit", "llm.completion", "--id", "../other"),
        ("submit", "llm.completion", "--id", "a", "--key", "b"),
        ("submit", "llm.completion", "--priority", "high"),
        ("show", "../../props"),
        ("list", "--state", "done"),
        ("list", "--url", "127.0.0.1:8000"),
        ("show",),
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_exit_code_2(graycat: Graycat, live, words: tuple[str, ...]) -> None:
    result = graycat(*words)
    assert (result.exit_code, live.requests) == (2, [])
    assert "Error: " in result.stderr


def test_waiting_prints_the_text_as_it_comes(graycat: Graycat, take, records) -> None:
    waiting = outcome_of(lambda: graycat("submit", "llm.completion", "--prompt", "Hi", "--wait"))
    attempt = take()
    records.publish(attempt, 1, sse("Once ", "upon"))
    records.succeed(attempt, 200, b'{"content":"Once upon"}')
    result = waiting()
    assert (result.exit_code, result.stdout, result.stderr) == (0, "Once upon\n", "")


def test_waiting_with_json_prints_the_ended_task(graycat: Graycat, take, records) -> None:
    waiting = outcome_of(lambda: graycat("submit", "llm.tokenize", "--prompt", "Hi", "--wait", "--json"))
    records.succeed(take("llm.quick"), 200, b'{"tokens":[1]}')
    shown = json.loads(waiting().stdout)
    assert (shown["state"], shown["result"]) == ("succeeded", {"tokens": [1]})


def test_a_task_without_text_ends_with_its_answer(graycat: Graycat, take, records) -> None:
    task_id = graycat("submit", "llm.tokenize", "--prompt", "Hi").stdout.strip()
    records.succeed(take("llm.quick"), 200, b'{"tokens":[1]}')
    assert graycat("watch", task_id).stdout == '{"tokens": [1]}\n'


def test_watching_with_json_prints_one_event_a_line(graycat: Graycat, take, records) -> None:
    task_id = graycat("submit", "llm.completion", "--prompt", "Hi").stdout.strip()
    attempt = take()
    records.publish(attempt, 1, sse("Hi"))
    records.succeed(attempt, 200, b'{"content":"Hi"}')
    lines = [json.loads(line) for line in graycat("watch", task_id, "--json").stdout.splitlines()]
    assert [line["event"] for line in lines] == ["started", "chunk", "result"]


def test_a_failed_task_is_exit_code_1_and_says_why(graycat: Graycat, take, records) -> None:
    task_id = graycat("submit", "llm.completion", "--prompt", "Hi").stdout.strip()
    records.fail(take(), TaskTimeout())
    for words in (("watch", task_id), ("watch", task_id, "--json")):
        result = graycat(*words)
        assert (result.exit_code, result.stderr) == (1, f"graycat: {TaskTimeout()} (task_timeout)\n")
    shown = graycat("show", task_id)
    assert (shown.exit_code, "task_timeout" in shown.stdout) == (0, True)


def test_images_are_printed_as_addresses(graycat: Graycat, live, rendered) -> None:
    result = graycat("watch", rendered)
    assert (result.exit_code, result.stdout) == (0, f"{live.url}/tasks/{rendered}/images/0\n")
    assert result.stderr == " 50%, step 10/20, 2 s left\n"
    assert f"{live.url}/tasks/{rendered}/images/0" in graycat("show", rendered).stdout


def test_images_are_written_to_a_folder(graycat: Graycat, rendered, tmp_path) -> None:
    result = graycat("watch", rendered, "--download", "pictures")
    assert result.stdout == f"pictures/{rendered}-0.png\n"
    assert (tmp_path / "pictures" / f"{rendered}-0.png").read_bytes() == b"\x89PNG\r\n\x1a\n one"


def test_a_folder_that_cannot_be_written_is_exit_code_2(graycat: Graycat, rendered, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    assert graycat("watch", rendered, "--download", "file/pictures").exit_code == 2


def test_a_task_is_cancelled(graycat: Graycat, records) -> None:
    task_id = graycat("submit", "llm.completion", "--prompt", "Hi").stdout.strip()
    assert graycat("cancel", task_id).stdout == "cancelled\n"
    assert json.loads(graycat("cancel", task_id, "--json").stdout)["confirmed"]
    assert records.get(task_id)["state"] == "cancelled"
    assert graycat("watch", task_id).exit_code == 1


def test_a_cancel_that_the_engine_has_not_confirmed_says_so(graycat: Graycat, take, monkeypatch) -> None:
    monkeypatch.setattr("graycat.web.api.tasks.CANCEL_TIMEOUT_S", 0.01)
    task_id = graycat("submit", "llm.completion", "--prompt", "Hi").stdout.strip()
    take()
    result = graycat("cancel", task_id)
    assert (result.exit_code, result.stdout.partition(":")[0]) == (0, "running")


def test_the_list_is_filtered(graycat: Graycat, take) -> None:
    first = graycat("submit", "llm.completion", "--prompt", "Hi").stdout.strip()
    take()
    second = graycat("submit", "llm.tokenize", "--prompt", "Hi").stdout.strip()

    def ids(*words: str) -> list[str]:
        return [line.split()[0] for line in graycat("list", *words).stdout.splitlines()]

    assert sorted(ids()) == sorted([first, second])
    assert (ids("--state", "running"), ids("--kind", "llm.tokenize"), len(ids("--limit", "1"))) == (
        [first],
        [second],
        1,
    )
    assert [json.loads(line)["kind"] for line in graycat("list", "--json", "--limit", "1").stdout.splitlines()]


def test_an_unreachable_server_is_exit_code_3(graycat: Graycat) -> None:
    result = graycat("list", "--url", f"http://127.0.0.1:{free_port()}", patience_s=0)
    assert (result.exit_code, result.stdout) == (3, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("graycat: http://127.0.0.1:")


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (("show", "0" * 32), "task_not_found"),
        (("list", "--token", "nobody-s"), "token_unknown"),
        (("submit", "llm.nonsense"), "invalid_request_error"),
    ],
)
def test_a_refusal_is_exit_code_4_with_its_type(graycat: Graycat, words: tuple[str, ...], kind: str) -> None:
    result = graycat(*words)
    assert (result.exit_code, f"({kind})" in result.stderr) == (4, True)


def test_an_interrupt_says_how_to_go_on(graycat: Graycat, monkeypatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("graycat.cli.taskview.follow", interrupted)
    result = graycat("submit", "llm.completion", "--prompt", "Hi", "--id", "story-1", "--wait")
    assert result.exit_code == 130
    assert "graycat task watch story-1" in result.stderr


def test_exit_codes_are_documented(graycat: Graycat) -> None:
    text = graycat("--help").stdout
    assert [code for code in ("0  ", "1  ", "2  ", "3  ", "4  ", "130") if f"    {code}  " not in text] == []
