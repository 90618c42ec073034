from __future__ import annotations

import sys
from pathlib import Path

import pytest

from graycat.engines.process.child import ShimmedProcess
from graycat.engines.process.exits import MAX_READ_BYTES, explain_exit
from tests.support.helpers import eventually

#: What the loader of GNU's C library and Python write, and what is made of it.
GOMP = "ImportError: libgomp.so.1: cannot open shared object file: No such file or directory"
CUDA = "/app/llama-server: error while loading shared libraries: libcuda.so.1: cannot open shared object file: No such"
OLD = "/lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.38' not found (required by /app/llama-server)"
ABSENT = "ModuleNotFoundError: No module named 'xllamacpp'"


def explained(tmp_path: Path, text: str, since: int = 0) -> str:
    (tmp_path / "output").write_text(text)
    return explain_exit(tmp_path / "output", since)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (GOMP, "libgomp.so.1 is missing on this machine (apt-get install libgomp1, or dnf install libgomp)"),
        (CUDA, "libcuda.so.1 is missing on this machine (it comes with NVIDIA's driver)"),
        (OLD, "older than the engine needs: GLIBC_2.38"),
        (ABSENT, "xllamacpp is not installed (pip install 'graycat[embedded]')"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, line: str, said: str) -> None:
    assert said in explained(tmp_path, f"Traceback\n  of something\n{line}\n")


def test_nothing_else_of_the_output_is_told(tmp_path: Path) -> None:
    assert explained(tmp_path, "the prompt was: tell me a secret\nSegmentation fault\n") == ""
    assert "secret" not in explained(tmp_path, f"secret.so secret\n{GOMP} secret\n")
    assert explain_exit(tmp_path / "nowhere", 0) == ""


def test_only_what_this_process_has_written_counts(tmp_path: Path) -> None:
    assert explained(tmp_path, f"{GOMP}\nlater\n", since=len(GOMP) + 1) == ""
    assert explained(tmp_path, GOMP, since=10_000) != ""  # rotated meanwhile
    assert explained(tmp_path, f"{GOMP}\n" + "x" * MAX_READ_BYTES) == ""


def test_an_engine_that_lacks_a_package_says_so_when_it_ends(tmp_path: Path) -> None:
    child = ShimmedProcess([sys.executable, "-c", "import there_is_no_such_package"], tmp_path / "output")
    child.start()
    eventually(lambda: not child.alive())
    assert child.exit_reason == "exit status 1: the Python package there_is_no_such_package is not installed"
    child.stop()
