"""The cookbooks' blocks, run as they stand there; only addresses are those of this stack."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import playwright
import pytest

from graycat.settings import Settings
from graycat.settings.dotenv import read_dotenv
from tests.support.cookbooks import PATIENCE_S, Block, at, blocks, page, run_in_order
from tests.support.cron import cron_runs
from tests.support.images import ImageStack
from tests.support.processes import eventually
from tests.support.programs import program
from tests.support.stack import BIN, ROOT, START_S, STOP_S, Stack, free_ports

REST, BATCHES, OPERATING = (page(f"cookbook-{name}.md") for name in ("rest", "batches", "operating"))
#: What a stack with an image engine answers.
IMAGES = "/v1/images/"
#: Node, as Playwright brings it along.
NODE = Path(playwright.__file__).with_name("driver") / "node"
#: A file of one of the cookbooks, or an excerpt of one, in a language of its own.
FILES = ("toml", "csv", "ini", "crontab")
FLOWER = "http://127.0.0.1:5555"


def of(path: Path, *languages: str) -> list[Block]:
    return [block for block in blocks(path) if block.language in languages]


def ids(block: Block) -> str:
    return f"{block.language}-{block.text.split()[0]}"


def home_of(stack: Stack, folder: Path) -> Path:
    """Return a folder in which a stack seems to have been started: it has ``var``, with the stack's secrets."""
    var = folder / "var"
    var.mkdir()
    (var / "api-token").write_text(f"{stack.token}\n")
    for name in ("metrics-token", "flower-password"):
        if (stack.home / name).exists():
            (var / name).symlink_to(stack.home / name)
    return folder


def run(words: list[str | Path], folder: Path, stack: Stack, **env: str) -> str:
    """Run a program and return what it printed."""
    done = subprocess.run(
        words, cwd=folder, env={**stack.env, "PYTHONPATH": str(ROOT), "TOKEN": stack.token, **env},
        check=False, capture_output=True, text=True, timeout=PATIENCE_S,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("path", [REST, BATCHES, OPERATING], ids=lambda path: path.stem)
def test_every_block_is_run_by_a_test(path: Path) -> None:
    run_here = {REST: {"bash", "python", "javascript", "csharp"}}.get(path, {"bash", *FILES})
    assert {block.language for block in blocks(path)} <= run_here
    # None is passed over because of its form.
    assert len(blocks(path)) * 2 == sum(line.strip().startswith("```") for line in path.read_text().splitlines())


def test_curl_about_texts(stack: Stack, tmp_path: Path) -> None:
    shell = [block for block in of(REST, "bash") if IMAGES not in block.text]
    printed = list(run_in_order(shell, home_of(stack, tmp_path), stack.env, stack.url).values())
    chat, stream, tokens, _, ended, events, _, refused = printed[1:]
    assert '"choices"' in chat
    assert stream.rstrip().endswith("data: [DONE]")
    assert '"tokens"' in tokens
    assert '"state":"succeeded"' in ended.replace(" ", "")
    assert "event: " in events
    assert refused.endswith("\n401")


def test_curl_about_images(studio: ImageStack, tmp_path: Path) -> None:
    first, *_ = of(REST, "bash")
    images = [block for block in of(REST, "bash") if IMAGES in block.text]
    run_in_order([first, *images], home_of(studio, tmp_path), studio.env, studio.url)
    assert (tmp_path / "lighthouse.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("block", of(REST, "python"), ids=ids)
def test_python(stack: Stack, block: Block, tmp_path: Path) -> None:
    words: list[str | Path] = [sys.executable, "-W", "error", "-c", at(block.text, stack.url)]
    assert run(words, home_of(stack, tmp_path), stack).strip()


@pytest.mark.parametrize("block", of(REST, "javascript"), ids=ids)
def test_javascript(stack: Stack, block: Block, tmp_path: Path) -> None:
    (tmp_path / "chat.mjs").write_text(at(block.text, stack.url))
    assert run([NODE, "chat.mjs"], tmp_path, stack).strip()


@pytest.mark.parametrize("block", of(REST, "csharp"), ids=ids)
def test_c_sharp(stack: Stack, block: Block, tmp_path: Path) -> None:
    compiler, runtime = program("mcs", "mono-mcs"), program("mono", "mono-runtime")
    (tmp_path / "Chat.cs").write_text(at(block.text, stack.url))
    run([compiler, "-warnaserror", "-r:System.Net.Http", "Chat.cs"], tmp_path, stack)
    events = run([runtime, "Chat.exe"], tmp_path, stack).splitlines()
    assert '"stop":true' in events[-1]
    assert len(events) > 1


def write_files(path: Path, folder: Path) -> None:
    """Write the files that a page shows."""
    for block in of(path, *FILES):
        if block.file:
            (folder / block.file).write_text(block.text)


def test_batches(studio: ImageStack, tmp_path: Path) -> None:
    write_files(BATCHES, home_of(studio, tmp_path))
    printed = list(run_in_order(of(BATCHES, "bash"), tmp_path, studio.env, studio.url).values())
    assert printed[0].startswith("4 images\n")
    assert "a dwarf at the bar, Euler a" in printed[2]
    assert len(list((tmp_path / "pictures").glob("*-a-bard-by-the-fire-*.png"))) == 2
    assert (tmp_path / "pictures" / "index.html").exists()
    assert printed[4].startswith(f"{studio.url}/batches/")


def test_a_crontab_line_submits_a_batch(studio: ImageStack, tmp_path: Path) -> None:
    write_files(BATCHES, tmp_path)
    # As where graycat was started: there the command finds the server and its API token.
    settings = {name: value for name, value in studio.env.items() if name in ("API_TOKENS", "PORT", "GRAYCAT_HOME")}
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    (block,) = of(BATCHES, "crontab")
    line = block.text.replace("/opt/graycat/.venv/bin", str(BIN)).replace("/opt/graycat", str(tmp_path))
    with cron_runs(line, "01:05", tmp_path):
        eventually(lambda: keys(studio, "nightly-"), START_S)
    (key,) = keys(studio, "nightly-")
    # A date, whichever.
    assert re.fullmatch(r"nightly-\d{4}-\d\d-\d\d", key)


def keys(studio: ImageStack, prefix: str) -> list[str]:
    """Return the keys of batches that begin so."""
    batches = studio.client().get("/batches").json()["batches"]
    return [batch["key"] for batch in batches if (batch["key"] or "").startswith(prefix)]


@pytest.fixture
def flower(stack: Stack) -> Iterator[str]:
    """Yield the address of a Flower beside the stack."""
    (port,) = free_ports(1)
    env = stack.env | {"FLOWER_PORT": str(port), "GRAYCAT_FLOWER": "true"}
    process = subprocess.Popen([BIN / "graycat", "flower"], env=env, stdout=subprocess.DEVNULL)
    try:
        eventually((stack.home / "flower-password").exists, START_S)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(STOP_S)


def test_operating(stack: Stack, flower: str, tmp_path: Path) -> None:
    shell = []
    for block in of(OPERATING, "bash"):
        shell.append(Block(block.language, block.text.replace(FLOWER, flower), block.line))
    printed = run_in_order(shell, home_of(stack, tmp_path), stack.env, stack.url)
    text = "".join(printed.values())
    assert "games are served" in text
    assert "graycat_queue_depth" in text
    assert "ACL SETUSER box7" in text
    assert (tmp_path / "monday.graycat").exists()


def test_the_settings_of_a_box_are_valid(tmp_path: Path) -> None:
    (block,) = of(OPERATING, "ini")
    (tmp_path / ".env").write_text(block.text)
    settings = Settings.from_env(read_dotenv(tmp_path / ".env"))
    assert settings.box == "box7"
    assert str(settings.model_url).startswith("hf://")
