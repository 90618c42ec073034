"""Blocks of the documents for copying, and a shell that runs them one after another, as their reader does."""

from __future__ import annotations

import re
import subprocess
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.stack import BIN, ROOT

#: Seconds that the blocks of a page may take together, on a machine that is busy.
PATIENCE_S = 300.0
#: A block may stand in a list, and be indented.
_BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"`([\w.]+)`[^`]*\Z")
#: curl ends with 0 if it is refused. Blocks that print the status are about that.
CURL = """
curl() {
  case " $* " in
    *http_code*) command curl -sS "$@" ;;
    *) command curl -sS --fail-with-body "$@" ;;
  esac
}
"""


@dataclass(frozen=True)
class Block:
    """A block of a page. ``file``: the file whose content it is, as named in the text before it; '' if none is."""

    language: str
    text: str
    line: int
    file: str = ""


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page."""
    text = page.read_text()
    found = []
    for match in _BLOCK.finditer(text):
        paragraph = text[: match.start()].rstrip().rpartition("\n\n")[2]
        named = _FILE.search(paragraph)
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(match[2], textwrap.dedent(match[3]), line, named[1] if named else ""))
    return found


def page(name: str) -> Path:
    """Return the path of a document."""
    return ROOT / "docs" / name


def run_in_order(shell: Iterable[Block], folder: Path, env: Mapping[str, str], url: str) -> dict[int, str]:
    """Run blocks in one shell, as somebody does who reads from top to bottom; return what each printed, by its line.

    Only the address is that of the test's server. Fails at the first command that does.
    """
    script = [f"set -euo pipefail\n{CURL}"]
    for block in shell:
        script.append(f"printf '\\n@@ {block.line}\\n'\n{at(block.text, url)}")
    words = ["bash", "-c", "\n".join(script)]
    done = subprocess.run(
        words, cwd=folder, env={**env, "PATH": f"{BIN}:/usr/bin:/bin"},
        check=False, capture_output=True, text=True, timeout=PATIENCE_S,
    )  # fmt: skip
    printed = {}
    for part in re.split(r"^@@ ", done.stdout, flags=re.MULTILINE)[1:]:
        line, _, output = part.partition("\n")
        printed[int(line)] = output.removesuffix("\n")
    assert done.returncode == 0, f"the block in line {list(printed)[-1]}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return printed


def at(text: str, url: str) -> str:
    """Return a block's text with the address of a server."""
    return text.replace("http://127.0.0.1:8000", url)
