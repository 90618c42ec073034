"""``graycat restore``: writes a backup to an empty broker, and its keys to this home."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import click

from graycat.backup import contents
from graycat.backup.archive import BackupFile
from graycat.backup.home_files import HomeFiles
from graycat.backup.restore import Restore
from graycat.cli import signals
from graycat.cli.backup import errors_as_messages, progress_line, token_key_fingerprint
from graycat.cli.running_broker import running_broker
from graycat.cli.text import say
from graycat.settings import Settings
from graycat.settings.home import tighten_home


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--replace", is_flag=True, help="Delete what the broker has of graycat, if it is not empty.")
@click.option("--force", is_flag=True, help="Go on while web servers or workers are connected.")
def restore(file: Path, replace: bool, force: bool) -> None:
    """Read the backup FILE into the broker.

    Stop graycat everywhere before. The broker is that of the settings; the keys go to GRAYCAT_HOME. The whole FILE
    is checked first. Exit code 1: nothing was restored, and the same command may be run again.
    """
    settings = Settings.from_env()
    with errors_as_messages(), closing(BackupFile.open(file)) as found:
        found.verify()
        tighten_home(settings.home)
        files = HomeFiles(settings.home, found, replace=replace)
        with running_broker(settings, create=True):
            made = Restore(settings, found, replace=replace, force=force)

            def prepare() -> None:
                files.prepare()
                # The broker's part and the home's belong together.
                signals.ignore()

            with progress_line() as line:
                try:
                    made.run(line.show_part, prepare)
                except BaseException:
                    files.discard()
                    raise
            files.finish()
    held = contents.describe(found.manifest["counts"]) or "nothing"
    say(f"restored {held}, as of {found.manifest['taken_at']}")
    if made.replaced and any(made.replaced.values()):
        say(f"deleted before: {contents.describe(made.replaced)}")
    known, ours = found.manifest.get("token_key"), token_key_fingerprint(settings)
    if known and known != ours:
        say("graycat: the key of API tokens here (GRAYCAT_TOKEN_KEY, or token-key in GRAYCAT_HOME) is not the one "
            "that the backup's tokens were made with: they will be refused", err=True)  # fmt: skip
    say("start graycat now; tokens that were revoked since are valid again: see graycat tokens list")
