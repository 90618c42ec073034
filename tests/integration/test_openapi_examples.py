"""The commands of /openapi.json and /docs for text and tasks, run as they stand there against real processes."""

from __future__ import annotations

from tests.support.document_commands import run_groups
from tests.support.stack import Client

#: What an engine answers that was not started for it, and what a task of text has not; the rest is done.
OTHERWISE = {
    "llamacppInfill": {200, 501},
    **dict.fromkeys(("llamacppEmbeddings", "openaiOpenaiEmbeddings", "llamacppRerank"), {501}),
    "llamacppSetLoraAdapters": {403},
    "openaiOneModel": {404},
    **dict.fromkeys(("taskImagesImage", "taskImagesPreview"), {404}),
    # It was cancelled before, or had ended already.
    "tasksRetry": {202, 409},
}


def test_every_command_for_text_and_tasks_is_answered_as_the_document_tells(api: Client) -> None:
    ran = run_groups(api, frozenset({"Games", "Chat", "Tasks"}), OTHERWISE)
    assert len(ran) > 30
    assert set(OTHERWISE) < set(ran)
