"""``graycat edge-config``: prints the configuration of a proxy that stands before graycat."""

from __future__ import annotations

from typing import Any

import click

from graycat.cli.text import say
from graycat.edge.config import PROGRAMS, EdgeOptions, make_config
from graycat.edge.render import render
from graycat.settings import Settings

DEFAULTS = EdgeOptions()
PORT = click.IntRange(1, 65535)


@click.command(name="edge-config")
@click.argument("program", type=click.Choice(PROGRAMS))
@click.option(
    "--certificate",
    default="",
    metavar="FILE",
    help="PEM: the certificate with its chain, and its key unless --key has that. Caddy gets one by itself without it.",
)
@click.option("--key", default="", metavar="FILE", help="PEM: the key, if it is in a file of its own.")
@click.option(
    "--server",
    "servers",
    multiple=True,
    metavar="HOST",
    help="Where graycat web runs; may be repeated. Default: this machine.",
)
@click.option(
    "--name", "names", multiple=True, metavar="HOST", help="For caddy: a name beside that of GRAYCAT_PUBLIC_URL."
)
@click.option(
    "--port", type=PORT, default=None, help="Where the proxy listens. Default: the port of GRAYCAT_PUBLIC_URL."
)
@click.option(
    "--inner-port",
    type=PORT,
    default=DEFAULTS.inner_port,
    show_default=True,
    help="For nginx: a free port of this machine, between its TCP level and its HTTP level.",
)
@click.option("--ipv6/--no-ipv6", default=True, show_default=True, help="Whether to listen on IPv6, too.")
@click.option(
    "--hsts",
    "hsts_s",
    type=click.IntRange(0),
    default=DEFAULTS.hsts_s,
    show_default=True,
    metavar="SECONDS",
    help="For how long browsers are told to use https only; 0: not at all.",
)
@click.option(
    "--access-log",
    default=DEFAULTS.access_log,
    show_default=True,
    metavar="FILE",
    help="For nginx: the log of requests at HTTP level; '' for none.",
)
def edge_config(program: str, port: int | None, **options: Any) -> None:
    """Print a whole configuration of nginx, haproxy or caddy, made from graycat's settings.

    It ends TLS for GRAYCAT_PUBLIC_URL. nginx and haproxy pass games' connections on to GRAYCAT_PROXY_PROTOCOL_PORT as
    they are, and speak HTTP/2 with browsers. docs/edge.md says more.
    """
    config = make_config(program, Settings.from_env(), EdgeOptions(port=port or 0, **options))
    say(render(program, config), nl=False)
