"""``graycat task``: submit, show, watch, cancel and list tasks of a server, from a terminal or a script."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from graycat.auth import tokens
from graycat.cli import taskview
from graycat.client import ApiError, Client, ClientError, InvalidArgument, Task, Unreachable
from graycat.client.errors import LimitExceeded, Unavailable
from graycat.client.views import ENDED
from graycat.settings import Settings

#: What a command exits with; 0 is success, 2 a usage error.
FAILED, UNREACHABLE, REFUSED, INTERRUPTED = 1, 3, 4, 130
#: The field of an input that a prompt goes into, where it is not ``prompt``.
PROMPT_FIELDS = {
    "llm.tokenize": "content",
    "llm.embeddings": "content",
    "llm.openai_embeddings": "input",
    "llm.responses": "input",
}
#: Kinds whose prompt is a chat message.
CHATS = ("llm.chat", "llm.messages", "llm.apply_template")
#: Addresses of the machine itself, to which its own API token may go.
LOOPBACK = ("127.0.0.1", "localhost", "::1")
STATES = ("queued", "running", *sorted(ENDED))


@click.group()
def task() -> None:
    """Submit tasks to a graycat server, watch them, cancel them.

    The server is that of the settings (HOST, PORT), or --url. The API token is the first of API_TOKENS, else the one
    that this copy has made, or --token.

    \b
    Exit codes:
      0    done
      1    the task failed, was cancelled, or expired
      2    the command line is wrong
      3    the server cannot be reached, or has no room: try later
      4    the server refused the request, and says why
      130  interrupted; the task goes on
    """


def address(settings: Settings) -> str:
    """Return where the web server of the settings is reached from this machine."""
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104 (not bound, called)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def secret(settings: Settings, url: str) -> str:
    """Return the API token for an address: the first configured one; the generated one goes to no other machine."""
    if named := tokens.configured(settings):
        return next(iter(named.values()))
    kept = tokens.token_file(settings)
    if kept.is_file() and (url == address(settings) or urlsplit(url).hostname in LOOPBACK):
        return kept.read_text().strip()
    raise click.UsageError("there is no API token for this server: give --token, or set API_TOKENS")


@contextmanager
def exit_codes() -> Iterator[None]:
    """Turn what a client raises into a line and an exit code."""
    try:
        yield
    except InvalidArgument as error:
        raise click.UsageError(str(error)) from None
    except (Unreachable, Unavailable, LimitExceeded) as error:
        _say(str(error))
        raise click.exceptions.Exit(UNREACHABLE) from None
    except ClientError as error:
        _say(f"{error} ({error.type})" if isinstance(error, ApiError) else str(error))
        raise click.exceptions.Exit(REFUSED) from None
    except KeyboardInterrupt:
        click.echo(err=True)
        raise click.exceptions.Exit(INTERRUPTED) from None


def _say(message: str) -> None:
    click.echo(f"graycat: {message}", err=True)


def calls_a_server(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command a client as its first argument, and the options that tell whose."""

    @click.option("--url", help="The server's address.")
    @click.option("--token", help="The API token; others on this machine can see it here, not in API_TOKENS.")
    @click.option("--patience", type=click.FloatRange(0), default=10.0, show_default=True, metavar="SECONDS",
                  help="Try again this long where the server is away or busy.")  # fmt: skip
    @wraps(command)
    def run(url: str | None, token: str | None, patience: float, **given: Any) -> None:
        with exit_codes():
            settings = Settings.from_env()
            url = (url or address(settings)).rstrip("/")
            with Client(url, token or secret(settings, url), patience_s=patience) as client:
                command(client, **given)

    return run


as_json = click.option("--json", "as_json", is_flag=True, help="Print what the server tells, as JSON.")
download = click.option("--download", "folder", type=click.Path(file_okay=False, path_type=Path),
                        help="Wait, and write the images to files of this folder.")  # fmt: skip


def read_input(kind: str, given: str | None, prompt: str | None, settings: tuple[str, ...]) -> dict[str, Any]:
    """Return a task's input: JSON from ``given`` (text, ``@file``, or ``-`` for stdin), then prompt and ``key=value``.

    A value is JSON where it can be read so, else text. Raises click.UsageError.
    """
    text = given or "{}"
    try:
        if text == "-":
            text = sys.stdin.read()
        elif text.startswith("@"):
            text = Path(text[1:]).read_text(encoding="utf-8")
        found = json.loads(text)
    except (OSError, ValueError) as error:
        raise click.UsageError(f"--input: {error}") from None
    if not isinstance(found, dict):
        raise click.UsageError("--input: a JSON object is needed")
    if prompt is not None:
        chat = [{"role": "user", "content": prompt}]
        found |= {"messages": chat} if kind in CHATS else {PROMPT_FIELDS.get(kind, "prompt"): prompt}
    for item in settings:
        key, equals, value = item.partition("=")
        if not (key and equals):
            raise click.UsageError(f"--set: {item!r} is not key=value")
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found


@task.command()
@click.argument("kind")
@click.option("--input", "given", metavar="JSON|@FILE|-", help="What the engine's route takes; - reads stdin.")
@click.option("--prompt", metavar="TEXT", help="The prompt, where the kind has it.")
@click.option("--set", "settings", metavar="KEY=VALUE", multiple=True, help="A field of the input; may be repeated.")
@click.option("--priority", type=click.Choice(["interactive", "batch"]), help="batch waits for the gaps.")
@click.option("--key", metavar="KEY", help="Idempotency key: the same again is the same task.")
@click.option("--id", "chosen", metavar="ID", help="An id of your own: the same again is the same task.")
@click.option("--wait", is_flag=True, help="Wait for the answer and print it as it comes.")
@download
@as_json
@calls_a_server
def submit(
    client: Client, kind: str, given: str | None, prompt: str | None, settings: tuple[str, ...], **options: Any
) -> None:
    """Submit a task; print its id.

    KIND is such as llm.completion, llm.chat, sd.txt2img.
    """
    body = read_input(kind, given, prompt, settings)
    key, chosen, priority = options["key"], options["chosen"], options["priority"]
    submitted = client.submit(kind, body, idempotency_key=key, id=chosen, priority=priority)
    if options["wait"] or options["folder"]:
        finish(submitted, client.url, options["folder"], as_json=options["as_json"], events=False)
    else:
        click.echo(taskview.as_json(submitted.view) if options["as_json"] else submitted.id)


@task.command()
@click.argument("task_id", metavar="ID")
@as_json
@calls_a_server
def show(client: Client, task_id: str, as_json: bool) -> None:
    """Show a task: its state, and its answer at the end."""
    view = client.task(task_id).view
    click.echo(taskview.as_json(view) if as_json else taskview.described(view, client.url))


@task.command()
@click.argument("task_id", metavar="ID")
@download
@as_json
@calls_a_server
def watch(client: Client, task_id: str, folder: Path | None, as_json: bool) -> None:
    """Follow a task to its end: text as it comes, a bar for images; with --json, a line an event."""
    finish(client.task(task_id), client.url, folder, as_json=as_json, events=True)


def finish(task: Task, url: str, folder: Path | None, *, as_json: bool, events: bool) -> None:
    """Follow a task to its end, print its answer, and exit as it did. ``events``: in JSON, those instead of the end."""
    told = False
    try:
        if not as_json:
            told = taskview.follow(task)
        elif events:
            for event in task.events():
                click.echo(json.dumps({"id": event.id, "event": event.kind, "data": event.data}))
        # The events may be forgotten where the task is not.
        view = task.wait().view
        files = downloaded(task, folder) if folder and view.images else []
    except (KeyboardInterrupt, ClientError):
        _say(f"look at the task again with: graycat task watch {task.id}")
        raise
    if as_json and not events:
        click.echo(taskview.as_json(view))
    elif not as_json:
        lines = [*map(str, files)] or taskview.image_addresses(view, url)
        for line in lines or ([] if told else filter(None, [taskview.answer(view)])):
            click.echo(line)
    if view.problem is not None:
        _say(f"{view.problem} ({view.problem.type})")
        raise click.exceptions.Exit(FAILED)


def downloaded(task: Task, folder: Path) -> list[Path]:
    """Return the files of a task's images. Raises click.UsageError for a folder that takes none."""
    try:
        return task.download(folder)
    except OSError as error:
        raise click.UsageError(f"--download: {error}") from None


@task.command()
@click.argument("task_id", metavar="ID")
@as_json
@calls_a_server
def cancel(client: Client, task_id: str, as_json: bool) -> None:
    """Cancel a task; harmless where it has ended."""
    found = client.task(task_id)
    confirmed = found.cancel()
    if as_json:
        click.echo(taskview.as_json(found.view))
    else:
        click.echo(found.state if confirmed else f"{found.state}: told to stop, the engine has not let go of it yet")


@task.command("list")
@click.option("--state", "states", type=click.Choice(STATES), multiple=True, help="Only tasks in it; may be repeated.")
@click.option("--kind", "kinds", multiple=True, help="Only tasks of it; may be repeated.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many, newest first.")
@as_json
@calls_a_server
def list_tasks(client: Client, states: tuple[str, ...], kinds: tuple[str, ...], limit: int, as_json: bool) -> None:
    """List your tasks, newest first; with --json, a line a task."""
    found = client.tasks(state=states, kind=kinds, page=min(limit, 100))
    for listed in islice(found, limit):
        click.echo(taskview.as_json(listed.view) if as_json else taskview.row(listed.view))
