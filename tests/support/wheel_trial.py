"""Tries the wheel on every Python that is here, as a user would: ``make pythons``.

For each: installed into a new environment, ``graycat up --check``, ``graycat up`` in an empty folder, a completion, an
image, a batch, and the end. What a user without the extras is told is tried on the first. Needs nothing but Python.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tests.support.ports import free_ports

ROOT = Path(__file__).resolve().parents[2]
#: The releases of Python 3 that are looked for; those behind the last one of setup.cfg's classifiers are a look ahead.
MINORS = range(11, 20)
#: Seconds that each step may take on a busy machine.
INSTALL_S, START_S, ANSWER_S, STOP_S = 1200, 300, 300, 90
TOKEN = "a-token-of-the-trial"
TAVERN = """\
name = "tavern"
count = 2
defaults = {steps = 1, width = 64, height = 64}
[matrix]
prompts = ["a dwarf at the bar"]
"""
#: Commands that need an extra which is not installed, and what their last line names.
WITHOUT_EXTRAS = {
    "up": "graycat[embedded]",
    "broker": "graycat[embedded]",
    "engine llm": "graycat[embedded]",
    "worker llm": "graycat[embedded]",
    "up --check": "graycat[embedded]",
    "exporter": "celery-exporter",
}


def tell(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def find_pythons() -> list[str]:
    """Return the interpreters that ``PYTHONS`` names, or all that are on the path and can make environments."""
    named = os.environ.get("PYTHONS", "").split()
    if named:
        return named
    found = [shutil.which(f"python3.{minor}") for minor in MINORS]
    return [python for python in found if python and runs(python, "import ensurepip, venv")]


def runs(python: str, code: str) -> bool:
    """Return whether a Python is really there: the names of version managers stand for some that are not."""
    return subprocess.run([python, "-c", code], capture_output=True, check=False).returncode == 0


def build_wheel(folder: Path) -> Path:
    """Build the source distribution, and the wheel out of it as pip would, in a copy of the checkout; return it."""
    source = folder / "source"
    ignored = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "var", "*.egg-info")
    shutil.copytree(ROOT, source, ignore=ignored)
    subprocess.run([sys.executable, "-m", "venv", folder / "builder"], check=True)
    python = folder / "builder" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "build"], check=True, timeout=INSTALL_S)
    command = [str(python), "-m", "build", "--outdir", str(folder / "dist"), str(source)]
    subprocess.run(command, check=True, capture_output=True, timeout=INSTALL_S)
    (wheel,) = (folder / "dist").glob("*.whl")
    return wheel


def install(python: str, target: Path, requirement: str) -> Path:
    """Install into a new environment; return its ``graycat``."""
    subprocess.run([python, "-m", "venv", target], check=True)
    command = [str(target / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", requirement]
    subprocess.run(command, check=True, timeout=INSTALL_S)
    return target / "bin" / "graycat"


def bare_environment() -> dict[str, str]:
    """Return an environment without graycat's settings, this checkout, and the programs of other environments."""
    kept = ("HOME", "LANG", "TMPDIR", "SSL_CERT_FILE")
    return {"PATH": "/usr/bin:/bin"} | {name: os.environ[name] for name in kept if name in os.environ}


def pick_ports() -> dict[str, str]:
    """Return settings with ports that are free."""
    names = ("PORT", "LLM_PORT", "SD_PORT", "FLOWER_PORT")
    return dict(zip(names, map(str, free_ports(len(names))), strict=True))


def post(url: str, body: Mapping[str, object]) -> bytes:
    """Return what is answered to a JSON body. Raises OSError for an error of HTTP."""
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)  # noqa: S310 (it is http)
    with urllib.request.urlopen(request, timeout=ANSWER_S) as reply:  # noqa: S310
        answer: bytes = reply.read()
    return answer


def is_ready(url: str) -> bool:
    """Return whether everything can answer."""
    try:
        with urllib.request.urlopen(f"{url}/ready", timeout=5):  # noqa: S310
            return True
    except OSError:
        return False


@contextlib.contextmanager
def running(graycat: Path, folder: Path, env: dict[str, str]) -> Iterator[str]:
    """Run ``graycat up`` in a folder; yield its address. It must end by itself, with status 0, at Ctrl-C."""
    output = folder.with_suffix(".log")
    with output.open("wb") as log:
        process = subprocess.Popen([graycat, "up"], cwd=folder, env=env, stdout=log, stderr=subprocess.STDOUT)
    try:
        url = f"http://127.0.0.1:{env['PORT']}"
        deadline = time.monotonic() + START_S
        while not is_ready(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"graycat up is not ready:\n{output.read_text()[-4000:]}")
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.5)
        yield url
        process.send_signal(signal.SIGINT)
        if process.wait(STOP_S) != 0:
            raise SystemExit(f"graycat up ended with {process.returncode}:\n{output.read_text()[-4000:]}")
    finally:
        # After a failure: its processes stop with it.
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
        process.kill()


def timed(name: str, step: Callable[[], object]) -> None:
    """Run a step and tell how long it took."""
    began = time.monotonic()
    step()
    tell(f"  {name:<12} {time.monotonic() - began:6.1f} s")


def use(graycat: Path, folder: Path) -> None:
    """Run graycat in an empty folder, and ask it for everything once. Raises SystemExit and OSError."""
    folder.mkdir()
    env = bare_environment() | pick_ports() | {"API_TOKENS": f"trial:{TOKEN}"}
    timed("check", lambda: call(graycat, "up --check", folder, env))
    (folder / "tavern.toml").write_text(TAVERN)
    prompt = {"prompt": "Once upon a time", "n_predict": 8}
    picture = {"prompt": "a lighthouse", "steps": 1}
    began = time.monotonic()
    with running(graycat, folder, env) as url:
        tell(f"  {'ready':<12} {time.monotonic() - began:6.1f} s")
        timed("completion", lambda: require(post(f"{url}/completion", prompt), b'"content"'))
        timed("image", lambda: require(post(f"{url}/generate-image", picture), b"image"))
        timed("batch", lambda: call(graycat, "batch submit tavern.toml --wait", folder, env))
        images = list((folder / "var" / "batches").rglob("*.png"))
        if len(images) != 2:
            raise SystemExit(f"the batch has made {len(images)} images of 2")


def call(graycat: Path, arguments: str, folder: Path, env: dict[str, str]) -> None:
    """Run a command of graycat's. Raises SystemExit with what it has printed if it fails."""
    words = [str(graycat), *arguments.split()]
    done = subprocess.run(words, cwd=folder, env=env, check=False, capture_output=True, text=True, timeout=ANSWER_S)
    if done.returncode:
        raise SystemExit(f"graycat {arguments} ended with {done.returncode}: {done.stdout}{done.stderr}")


def require(answer: bytes, part: bytes) -> None:
    """Raise SystemExit if an answer lacks a part."""
    if part not in answer:
        raise SystemExit(f"{part!r} is not in the answer: {answer[:500]!r}")


def do_without_extras(graycat: Path, folder: Path) -> None:
    """Check that each command which needs an extra says so in a sentence. Raises SystemExit."""
    folder.mkdir()
    env = bare_environment() | pick_ports()
    for command, named in WITHOUT_EXTRAS.items():
        words = [str(graycat), *command.split()]
        done = subprocess.run(words, cwd=folder, env=env, check=False, capture_output=True, text=True, timeout=ANSWER_S)
        output = done.stdout + done.stderr
        if done.returncode not in (1, 2) or named not in output or "Traceback" in output:
            raise SystemExit(f"graycat {command} ended with {done.returncode}: {output[-2000:]}")
    tell(f"  without extras: {len(WITHOUT_EXTRAS)} commands say what is missing")


def main() -> None:
    """Try the wheel on each Python; exit with 1 at the first that it does not work on."""
    pythons = find_pythons()
    if not pythons:
        raise SystemExit("no Python 3.11 or newer is here; name some: make pythons PYTHONS='/path/to/python3.13 ...'")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        wheel = build_wheel(folder)
        tell(f"{wheel.name}: {wheel.stat().st_size // 1024} KiB")
        for number, python in enumerate(pythons):
            version = subprocess.run([python, "-V"], capture_output=True, text=True, check=True).stdout.strip()
            tell(f"{version} ({python})")
            here = folder / str(number)
            here.mkdir()
            if number == 0:
                do_without_extras(install(python, here / "bare", str(wheel)), here / "empty")
            began = time.monotonic()
            graycat = install(python, here / "venv", f"{wheel}[embedded]")
            tell(f"  {'install':<12} {time.monotonic() - began:6.1f} s")
            use(graycat, here / "up")
            shutil.rmtree(here)


if __name__ == "__main__":
    main()
