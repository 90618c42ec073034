"""``graycat systemd``: units for this installation, printed or written into a folder."""

from __future__ import annotations

import os
import pwd
import shlex
import stat
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import click

from graycat.cli import up
from graycat.cli.text import say
from graycat.errors import SettingsError
from graycat.settings import Settings, broker
from graycat.supervision.specs import ProcessSpec
from graycat.supervision.systemd import ENVIRONMENT_FILE, STATE, USER, Layout, units


@click.command()
@click.option("--user", "own", is_flag=True, help="For your own systemd (systemctl --user), not the system's.")
@click.option("--as", "account", metavar="ACCOUNT", help=f"The user as whom the system runs it; default {USER}.")
@click.option("--home", type=click.Path(path_type=Path), metavar="FOLDER",
              help=f"GRAYCAT_HOME; default {STATE}, or ~/.local/state/graycat with --user.")  # fmt: skip
@click.option("--env", "environment_file", type=click.Path(path_type=Path), metavar="FILE",
              help=f"The settings; default {ENVIRONMENT_FILE}, or ~/.config/graycat/env with --user.")  # fmt: skip
@click.option("--output", type=click.Path(path_type=Path), metavar="FOLDER",
              help="Write each unit to a file in this folder instead of printing them.")  # fmt: skip
def systemd(
    own: bool, account: str | None, home: Path | None, environment_file: Path | None, output: Path | None
) -> None:
    """Make units for systemd: one for each process that the settings run on this machine, and graycat.target.

    They start the graycat that prints them, in a sandbox.
    """
    if own and account:
        raise click.UsageError("--as is for the system's systemd; --user runs as you")
    settings = Settings.from_env()
    layout = describe_layout(settings, own=own, account=account, home=home, environment_file=environment_file)
    processes = [ProcessSpec.from_command(*item) for item in up.list_processes(settings).items()]
    texts = units(layout, processes)
    if output is None:
        say("\n".join(f"# {name}\n{text}" for name, text in texts.items()))
        return
    closed = closed_folder(layout)
    if closed is not None:
        say(
            f"graycat: the user {layout.user} cannot enter {closed}, where graycat or the Python that runs it lies: "
            "make the environment in another place (/opt), with a Python that all users can run",
            err=True,
        )
    try:
        output.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            write_unit(output / name, text)
            say(f"systemd: {output / name}")
    except OSError as error:
        raise click.ClickException(f"{error.filename or output} cannot be written: {error.strerror}") from None
    say(f"\n{next_steps(layout)}")


def write_unit(path: Path, text: str) -> None:
    """Write a unit in place of what has its name. Raises OSError."""
    # If others may write in the folder, the name may be a link to a file of this user's.
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, prefix=".", delete=False) as file:
        try:
            file.write(text)
            file.close()
            # They hold no secrets, and systemd complains of units that not everybody may read.
            Path(file.name).chmod(0o644)
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def describe_layout(
    settings: Settings, *, own: bool, account: str | None, home: Path | None, environment_file: Path | None
) -> Layout:
    """Return where this installation lies, for the system's systemd or the user's own. Raises SettingsError."""
    user: str | None = account or USER
    state, settings_file = STATE, ENVIRONMENT_FILE
    if own:
        me = own_folder()
        user, state, settings_file = None, me / ".local/state/graycat", me / ".config/graycat/env"
    folder = (home or state).absolute()
    # Each unit has a /tmp of its own, where the others would not find the socket.
    if settings.embedded_broker and folder not in broker.embedded_socket(folder).parents:
        raise SettingsError(f"--home {folder} is too long for the socket of the embedded broker: choose a shorter one")
    return Layout(
        program=Path(sys.executable).absolute().parent / "graycat",
        folder=folder,
        home=folder,
        environment_file=(environment_file or settings_file).absolute(),
        user=user,
        writes=tuple(local_folders(settings.batch_dir, settings.artifacts_url)),
        reads=(Path(sys.base_prefix), *local_folders(settings.model_url)),
        stop_grace_s=settings.stop_grace_s,
    )


def own_folder() -> Path:
    """Return the home folder of this user. Raises SettingsError."""
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        raise SettingsError(f"the user {os.getuid()} has no account on this machine, and so no systemd") from None


def closed_folder(layout: Layout) -> Path | None:
    """Return a folder above graycat or its Python that other users cannot enter, if another user is to run it."""
    if layout.user is None:
        return None
    for program in (layout.program, Path(sys.base_prefix)):
        for parent in program.parents:
            if parent.is_dir() and not parent.stat().st_mode & stat.S_IXOTH:
                return parent
    return None


def local_folders(*addresses: str) -> list[Path]:
    """Return those of some addresses that are absolute paths of this machine."""
    found = []
    for address in addresses:
        parts = urlsplit(address)
        if parts.scheme in ("", "file") and parts.path.startswith("/"):
            found.append(Path(parts.path))
    return found


def next_steps(layout: Layout) -> str:
    """Return what to do with the units."""
    home = shlex.quote(str(layout.home))
    systemctl = "systemctl"
    lines = []
    if layout.user is None:
        systemctl += " --user"
        lines.append(f"mkdir -p {home}")
    else:
        lines.append(f"useradd --system --home-dir {home} --shell /usr/sbin/nologin {layout.user}")
        if layout.home != STATE:
            lines.append(f"install -d -m 700 -o {layout.user} -g {layout.user} {home}")
    lines += [f"{systemctl} daemon-reload", f"{systemctl} enable --now graycat.target"]
    return "Settings come from " + str(layout.environment_file) + ". Then:\n" + "".join(f"  {line}\n" for line in lines)
