"""Uses the generated client as its user would; its package ``graycat_api`` is in the current folder.

Runs in the generator's environment: ``python use.py URL TOKEN``.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

sys.path.insert(0, ".")


def operation(group: str, name: str) -> Any:
    """Return the module of an operation."""
    return import_module(f"graycat_api.api.{group}.{name}")


def main(url: str, token: str) -> None:
    """Submit a task and wait for it, complete a prompt and a chat, read lists, and meet errors."""
    httpx: Any = import_module("httpx")
    models: Any = import_module("graycat_api.models")
    package: Any = import_module("graycat_api")
    options = {"base_url": url, "raise_on_unexpected_status": True, "timeout": httpx.Timeout(120)}
    client = package.AuthenticatedClient(token=token, **options)

    body = {"kind": "llm.completion", "input": {"prompt": "Once upon a time", "n_predict": 4}, "metadata": {"run": 7}}
    task = operation("tasks", "tasks_submit").sync(client=client, body=models.TasksSubmitBody.from_dict(body))
    ended = operation("tasks", "tasks_show").sync(task.id, client=client, wait=60)
    assert (ended.state.value, ended.metadata.to_dict()) == ("succeeded", {"run": 7}), ended
    page = operation("tasks", "tasks_listing").sync(
        client=client, state=[models.TasksListingStateItem("succeeded")], limit=5
    )
    assert task.id in [listed.id for listed in page.tasks]
    gone = operation("tasks", "tasks_show").sync("no-such-task", client=client)
    assert (gone.error.code, gone.error.type_) == (404, "task_not_found")

    completion = operation("games", "llamacpp_completion")
    asked = models.LlamacppCompletionBody(prompt="Once upon a time", n_predict=4)
    answered = completion.sync(client=client, body=asked)
    assert answered.content
    later = completion.sync(client=client, body=asked, prefer=models.LlamacppCompletionPrefer("respond-async"))
    assert later.state == "queued"
    tokens = operation("games", "llamacpp_tokenize")
    assert tokens.sync(client=client, body=models.LlamacppTokenizeBody(content="hello")).tokens
    chat = models.OpenaiChatBody.from_dict({"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4})
    assert operation("chat", "openai_chat").sync(client=client, body=chat).choices[0].message.role == "assistant"
    assert operation("chat", "openai_models").sync(client=client).data[0].id

    assert operation("operators", "health_ready").sync(client=package.Client(**options)).ready
    refused = operation("tasks", "tasks_listing").sync(client=package.AuthenticatedClient(token="wrong", **options))
    assert (refused.error.code, refused.error.type_) == (401, "token_unknown")


if __name__ == "__main__":
    main(*sys.argv[1:])
