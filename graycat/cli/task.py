"""``graycat task``: submit, show, watch, cancel and list tasks of a server, from a terminal or a script."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import click

from graycat.bounds import documents
from graycat.cli import taskview
from graycat.cli.server import EXIT_FAILED, json_option, print_error, with_client
from graycat.cli.text import parse_assignment, read_stdin, say
from graycat.client import Client, ClientError, Task, TaskView
from graycat.client.views import ENDED

#: The field of an input that takes the prompt, if it is not ``prompt``.
PROMPT_FIELDS = {
    "llm.tokenize": "content",
    "llm.embeddings": "content",
    "llm.openai_embeddings": "input",
    "llm.responses": "input",
}
#: Kinds whose prompt is a chat message.
CHAT_KINDS = ("llm.chat", "llm.messages", "llm.apply_template")
STATES = ("queued", "running", *sorted(ENDED))
#: Tasks that one request for the list may ask for.
MAX_PAGE_SIZE = 100

download_option = click.option("--download", "folder", type=click.Path(file_okay=False, path_type=Path),
                               help="Wait, and write the images to files in this folder.")  # fmt: skip


@click.group()
def task() -> None:
    """Submit tasks to a graycat server, watch them, cancel them.

    The server is that of --url, else the graycat that runs with GRAYCAT_HOME, else that of HOST and PORT. The API
    token is that of --token, else the first of API_TOKENS, else the one that this installation has generated.

    \b
    Exit codes:
      0    done
      1    the task failed, was cancelled, or expired
      2    the command line is wrong
      3    the server cannot be reached, or has no capacity: try again later
      4    the server refused the request; the message says why
      130  interrupted; the task goes on
    """


def build_input(kind: str, source: str | None, prompt: str | None, assignments: tuple[str, ...]) -> dict[str, Any]:
    """Return a task's input: the JSON object of ``source``, then the prompt, then each ``KEY=VALUE``.

    A value is JSON if it can be parsed as such, else text. Raises click.UsageError.
    """
    fields = read_json_object(source or "{}")
    if prompt is not None:
        if kind in CHAT_KINDS:
            fields["messages"] = [{"role": "user", "content": prompt}]
        else:
            fields[PROMPT_FIELDS.get(kind, "prompt")] = prompt
    for assignment in assignments:
        key, value = parse_assignment("--set", assignment)
        fields[key] = value
    return fields


def read_json_object(source: str) -> dict[str, Any]:
    """Return the JSON object in a text, in a file (``@FILE``) or on stdin (``-``). Raises click.UsageError."""
    try:
        if source == "-":
            text = read_stdin()
        elif source.startswith("@"):
            text = documents.read_text_file(Path(source[1:]))
        else:
            text = source
        value = documents.parse(text, "json")
    except ValueError as error:
        raise click.UsageError(f"--input: {error}") from None
    if not isinstance(value, dict):
        raise click.UsageError("--input: it must be a JSON object")
    return value


@task.command()
@click.argument("kind")
@click.option("--input", "source", metavar="JSON|@FILE|-", help="The fields that the engine's route takes; - is stdin.")
@click.option("--prompt", metavar="TEXT", help="The prompt; it is put into the field that the kind has for it.")
@click.option("--set", "assignments", metavar="KEY=VALUE", multiple=True,
              help="Set a field of the input; may be repeated.")  # fmt: skip
@click.option("--priority", type=click.Choice(["interactive", "batch"]), help="batch runs when nothing else waits.")
@click.option("--key", metavar="KEY", help="Idempotency key: the same key again is the same task.")
@click.option("--id", "task_id", metavar="ID", help="An id that you choose: the same id again is the same task.")
@click.option("--wait", is_flag=True, help="Wait for the answer and print it as it is generated.")
@download_option
@json_option
@with_client
def submit(
    client: Client,
    kind: str,
    source: str | None,
    prompt: str | None,
    assignments: tuple[str, ...],
    priority: Any,
    key: str | None,
    task_id: str | None,
    wait: bool,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Submit a task; print its id.

    KIND is for example llm.completion, llm.chat or sd.txt2img.
    """
    fields = build_input(kind, source, prompt, assignments)
    submitted = client.submit(kind, fields, idempotency_key=key, id=task_id, priority=priority)
    if wait or folder:
        follow_to_end(submitted, client.url, folder, as_json=as_json, json_events=False)
    elif as_json:
        say(taskview.as_json(submitted.view))
    else:
        say(submitted.id)


@task.command()
@click.argument("task_id", metavar="ID")
@json_option
@with_client
def show(client: Client, task_id: str, as_json: bool) -> None:
    """Show a task's state, and its answer if it has ended."""
    view = client.task(task_id).view
    if as_json:
        say(taskview.as_json(view))
    else:
        say(taskview.describe(view, client.url))


@task.command()
@click.argument("task_id", metavar="ID")
@download_option
@json_option
@with_client
def watch(client: Client, task_id: str, folder: Path | None, as_json: bool) -> None:
    """Follow a task to its end.

    Prints text as it is generated, and a progress bar for images.

    With --json, print one event a line.
    """
    follow_to_end(client.task(task_id), client.url, folder, as_json=as_json, json_events=True)


def follow_to_end(task: Task, url: str, folder: Path | None, *, as_json: bool, json_events: bool) -> None:
    """Follow a task to its end, print its answer, and exit by its state.

    ``json_events``: with ``as_json``, print the events as they come instead of the task after its end.
    """
    text_printed = False
    try:
        if not as_json:
            text_printed = taskview.follow(task)
        elif json_events:
            print_events(task)
        # The server may have forgotten the events, but not the task.
        view = task.wait().view
        files = []
        if folder and view.images:
            files = download_images(task, folder)
    except (KeyboardInterrupt, ClientError):
        print_error(f"follow the task again with: graycat task watch {task.id}")
        raise

    if not as_json:
        print_answer(view, url, files, text_printed=text_printed)
    elif not json_events:
        say(taskview.as_json(view))
    if view.problem is not None:
        print_error(f"{view.problem} ({view.problem.type})")
        raise click.exceptions.Exit(EXIT_FAILED)


def print_events(task: Task) -> None:
    """Print a task's events as they come, each as JSON on one line."""
    for event in task.events():
        say(json.dumps({"id": event.id, "event": event.kind, "data": event.data}))


def print_answer(view: TaskView, url: str, files: list[Path], *, text_printed: bool) -> None:
    """Print the files of a task's images, else their addresses, else the answer if no text was printed before."""
    if files:
        for file in files:
            say(file)
        return
    addresses = taskview.image_urls(view, url)
    if addresses:
        for address in addresses:
            say(address)
        return
    answer = taskview.format_answer(view)
    if answer and not text_printed:
        say(answer)


def download_images(task: Task, folder: Path) -> list[Path]:
    """Write a task's images to a folder and return their paths. Raises click.UsageError if that fails."""
    try:
        return task.download(folder)
    except OSError as error:
        raise click.UsageError(f"--download: {error}") from None


@task.command()
@click.argument("task_id", metavar="ID")
@json_option
@with_client
def cancel(client: Client, task_id: str, as_json: bool) -> None:
    """Cancel a task; harmless if it has ended."""
    cancelled = client.task(task_id)
    confirmed = cancelled.cancel()
    if as_json:
        say(taskview.as_json(cancelled.view))
    elif confirmed:
        say(cancelled.state)
    else:
        say(f"{cancelled.state}: the cancellation is sent, the engine has not stopped yet")


@task.command("list")
@click.option("--state", "states", type=click.Choice(STATES), multiple=True,
              help="Only tasks in this state; may be repeated.")  # fmt: skip
@click.option("--kind", "kinds", multiple=True, help="Only tasks of this kind; may be repeated.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many, newest first.")
@click.option("--owner", help="With an admin's token: whose; NAME/* for its players, * for all that are not over.")
@json_option
@with_client
def list_tasks(
    client: Client, states: tuple[str, ...], kinds: tuple[str, ...], limit: int, owner: str | None, as_json: bool
) -> None:
    """List your tasks, newest first; with --json, one task a line."""
    tasks = client.tasks(state=states, kind=kinds, page=min(limit, MAX_PAGE_SIZE), owner=owner)
    for listed in islice(tasks, limit):
        if as_json:
            say(taskview.as_json(listed.view))
        else:
            say(taskview.format_row(listed.view))
