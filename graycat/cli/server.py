"""What the commands that call a server share: its address, the API token, their options and exit codes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any
from urllib.parse import urlsplit

import click

from graycat.auth import tokens
from graycat.cli.running import configured_url, find_running
from graycat.cli.text import say
from graycat.client import ApiError, Client, ClientError, InvalidArgument, Unreachable
from graycat.client.errors import LimitExceeded, Unavailable
from graycat.client.http import is_http_address
from graycat.settings import Settings

#: Exit codes. 0 is success, 2 a wrong command line.
EXIT_FAILED, EXIT_UNREACHABLE, EXIT_REFUSED, EXIT_INTERRUPTED = 1, 3, 4, 130
#: Hosts that are this machine. Secrets that this installation has generated may be sent to them.
LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")

url_option = click.option(
    "--url", help="The server's address. Default: that of the graycat which runs with GRAYCAT_HOME, or HOST and PORT."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the server's JSON.")


def server_url(settings: Settings) -> str:
    """Return the URL of the ``graycat up`` that runs with the settings' home; if none does, of the settings' server.

    What runs may have been started with another HOST or PORT than those that this command has.
    """
    running = find_running(settings.home)
    if running is not None and running.url:
        return running.url
    return configured_url(settings)


def is_this_machine(settings: Settings, url: str) -> bool:
    """Return whether a URL is that of the settings' own server, or another one on this machine."""
    if url == server_url(settings):
        return True
    return is_http_address(url) and urlsplit(url).hostname in LOOPBACK_HOSTS


def find_api_token(settings: Settings, url: str) -> str:
    """Return the API token for a server: the first of API_TOKENS, else the generated one if it is this machine's.

    Raises click.UsageError if there is none.
    """
    configured = tokens.parse_api_tokens(settings)
    if configured:
        return next(iter(configured.values()))
    generated = tokens.token_file(settings)
    if generated.is_file() and is_this_machine(settings, url):
        return generated.read_text().strip()
    raise click.UsageError(
        "there is no API token for this server: run this in the folder where graycat was started, or set "
        "GRAYCAT_HOME or API_TOKENS, or give --token"
    )


@contextmanager
def exit_on_client_error() -> Iterator[None]:
    """Turn what a client raises into a line on stderr and an exit code."""
    try:
        yield
    except InvalidArgument as error:
        raise click.UsageError(str(error)) from None
    except (Unreachable, Unavailable, LimitExceeded) as error:
        print_error(str(error))
        raise click.exceptions.Exit(EXIT_UNREACHABLE) from None
    except ApiError as error:
        print_error(f"{error} ({error.type})")
        raise click.exceptions.Exit(EXIT_REFUSED) from None
    except ClientError as error:
        print_error(str(error))
        raise click.exceptions.Exit(EXIT_REFUSED) from None
    except KeyboardInterrupt:
        say(err=True)
        raise click.exceptions.Exit(EXIT_INTERRUPTED) from None


def print_error(message: str) -> None:
    """Print a line on stderr."""
    say(f"graycat: {message}", err=True)


def with_client(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command a client as its first argument, and the options that choose the client's server."""

    @url_option
    @click.option("--token", help="The API token. Other users of this machine can see it here, but not in API_TOKENS.")
    @click.option("--patience", type=click.FloatRange(0), default=10.0, show_default=True, metavar="SECONDS",
                  help="For how long to repeat a request while the server is away or busy.")  # fmt: skip
    @wraps(command)
    def run(url: str | None, token: str | None, patience: float, **options: Any) -> None:
        with exit_on_client_error():
            settings = Settings.from_env()
            url = (url or server_url(settings)).rstrip("/")
            token = token or find_api_token(settings, url)
            with Client(url, token, patience_s=patience) as client:
                command(client, **options)

    return run
