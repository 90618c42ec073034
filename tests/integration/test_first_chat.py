"""The first chat after ``make run``: the lines that it ends with, and what the model says to easy questions."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from graycat.engines.models.packaged import SMOLLM2_FILE
from tests.support.stack import REQUEST_S, ROOT, Stack, running

#: Easy questions, and a word of their answers.
QUESTIONS = {
    "What is the capital of France?": "paris",
    "What is the capital of Italy?": "rome",
    "What is the capital of Japan?": "tokyo",
    "What color is the sky on a clear day?": "blue",
    "How many days are in a week?": "7|seven",
    "What planet do we live on?": "earth",
    "Which animal says meow?": "cat",
    "What is the opposite of hot?": "cold",
    "Which month comes after January?": "february",
    "What is the largest ocean?": "pacific",
}
#: So many of the ten answers have the word, and end by themselves.
RIGHT, ENDED = 8, 7
SYSTEM = "You are a helpful assistant. Answer briefly."
#: What templates of chats put around messages.
MARKUP = re.compile(r"<\|?/?\w+\|?>|\[/?INST\]|<start_of_turn>|<end_of_turn>")


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Yield what ``make run`` starts, in an empty home."""
    with running(Stack(tmp_path_factory.mktemp("first") / "home")) as started:
        yield started


def test_the_lines_that_up_ends_with_are_answered_with_sense(fresh: Stack, tmp_path: Path) -> None:
    lines = fresh.output.partition("Try it in another terminal:\n")[2].partition("\n\n")[0]
    # A configured token is not printed: a word stands for it.
    script = lines.replace("YOUR_API_TOKEN", fresh.token) + " -sS --fail-with-body\ngraycat task list --token $TOKEN\n"
    assert "curl " in script, fresh.output
    # As in a new terminal: nothing of the first one is known.
    env = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["/bin/sh", "-ec", script], cwd="/", env=env, check=False, capture_output=True, text=True, timeout=REQUEST_S
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Tokyo" in done.stdout


def test_easy_questions_get_right_answers_without_markup(fresh: Stack) -> None:
    def ask(question: str) -> tuple[str, str]:
        """Return an answer, and how it ended."""
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
        body = {"messages": messages, "temperature": 0, "max_tokens": 64}
        choice = fresh.client().post("/v1/chat/completions", body).json()["choices"][0]
        return choice["message"]["content"], choice["finish_reason"]

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(ask, QUESTIONS))
    assert [text for text, _ in answers if MARKUP.search(text)] == []
    right = [re.search(word, text.lower()) for word, (text, _) in zip(QUESTIONS.values(), answers, strict=True)]
    assert sum(map(bool, right)) >= RIGHT, answers
    assert [ending for _, ending in answers].count("stop") >= ENDED, answers


def test_it_is_the_packaged_model_and_its_home_holds_no_copy(fresh: Stack) -> None:
    models = fresh.client().get("/v1/models").json()["data"]
    assert [model["id"] for model in models] == [SMOLLM2_FILE.removesuffix(".gguf")]
    assert list(fresh.home.rglob("*.gguf")) == []
