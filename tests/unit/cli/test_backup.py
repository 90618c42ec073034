from __future__ import annotations

import io
import json
import stat
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from graycat.backup.home_files import KEYS
from graycat.cli import main
from graycat.cli.backup import ProgressLine, progress_line
from tests.support.backups import fill
from tests.support.broker import BrokerClient
from tests.support.helpers import SECRET, Valkey

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(valkey: Valkey, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Yield what runs a command in the home of the broker; it returns exit status, output and errors."""
    home_keys = [valkey.settings.home / name for name in KEYS]
    # Other tests share the broker and its home: what they have sealed stays readable.
    held = {path: path.read_bytes() for path in home_keys if path.exists()}
    for path in held:
        path.unlink()
    monkeypatch.chdir(valkey.settings.home)
    monkeypatch.setenv("GRAYCAT_HOME", str(valkey.settings.home))
    monkeypatch.delenv("GRAYCAT_TOKEN_KEY", raising=False)
    monkeypatch.setenv("API_TOKENS", f"tests:{SECRET}")

    def run(*words: str, home: Path | None = None) -> tuple[int, str, str]:
        if home is not None:
            monkeypatch.setenv("GRAYCAT_HOME", str(home))
        monkeypatch.setattr(sys, "argv", ["graycat", *words])
        with pytest.raises(SystemExit) as caught:
            main()
        printed = capsys.readouterr()
        return int(caught.value.code or 0), printed.out, printed.err

    yield run
    for path in home_keys:
        path.unlink(missing_ok=True)
    for path, secret in held.items():
        path.write_bytes(secret)


def manifest_of(path: Path) -> dict[str, object]:
    with zipfile.ZipFile(path) as archive:
        found: dict[str, object] = json.loads(archive.read("manifest.json"))
    return found


def test_a_backup_says_what_it_holds(valkey: Valkey, client: BrokerClient, run: Run, tmp_path: Path) -> None:
    fill(client)
    status, out, err = run("backup", str(tmp_path / "b"))
    assert (status, out.startswith(f"{tmp_path / 'b'}: 2 API tokens, 1 schedules, 3 batches, 1 tasks, ")) == (0, True)
    # Another program's key; the tokens were sealed with one that is not here.
    assert "has no token-key" in err
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o600
    manifest = manifest_of(tmp_path / "b")
    assert manifest["format"] == 1
    assert {"graycat", "broker", "taken_at", "counts", "keys", "memory_bytes", "rows", "sha256"} <= manifest.keys()
    before = (tmp_path / "b").read_bytes()
    status, out, err = run("backup", str(tmp_path / "b"))
    assert (status, out, err) == (1, "", f"Error: {tmp_path / 'b'} exists: choose another name, or give --overwrite\n")
    assert (tmp_path / "b").read_bytes() == before
    assert run("backup", "--overwrite", str(tmp_path / "b"))[0] == 0


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ([], ["home/token-key"]),
        (["--without-keys"], []),
        (["--files"], ["home/batches/night/1.png", "home/token-key"]),
    ],
)
def test_which_files_of_the_home_are_in_it(
    valkey: Valkey, client: BrokerClient, run: Run, tmp_path: Path, options: list[str], parts: list[str]
) -> None:
    (valkey.settings.home / "batches" / "night").mkdir(parents=True, exist_ok=True)
    (valkey.settings.home / "batches" / "night" / "1.png").write_bytes(b"image")
    (valkey.settings.home / "token-key").write_text("a key")
    client.set("graycat:paused", "x")
    assert run("backup", *options, str(tmp_path / "b"))[0] == 0
    with zipfile.ZipFile(tmp_path / "b") as archive:
        assert sorted(name for name in archive.namelist() if name.startswith("home/")) == parts
    assert manifest_of(tmp_path / "b")["token_key"]
    (valkey.settings.home / "token-key").unlink()


def test_a_broker_that_is_away(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    status, out, err = run("backup", str(tmp_path / "b"))
    assert (status, out) == (1, "")
    assert err.startswith("Error: the broker cannot be reached")
    assert len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_home_without_any_broker(run: Run, tmp_path: Path) -> None:
    status, out, err = run("backup", str(tmp_path / "b"), home=tmp_path / "home")
    assert (status, out) == (2, "")
    assert "no broker runs, and" in err
    assert list(tmp_path.iterdir()) == []


def test_progress_is_for_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for target, shown in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", target)
        with progress_line() as line:
            line.show_bytes(1234, 5 * 1024 * 1024)
            # So soon behind the first, it would only flicker.
            line.show_part(1, 2)
        assert ("1,234 keys, 5 MiB" in target.getvalue()) == shown
        assert "commands" not in target.getvalue()
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    ProgressLine().show_part(1, 2)
    assert "1 of 2 commands" in terminal.getvalue()
