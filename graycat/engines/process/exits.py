"""Why an engine's process could not start, in words of ours, out of the last lines of its output.

Only what the dynamic loader and Python say of a missing library or package is taken: the rest of an engine's output may
hold prompts, and stays in its file.
"""

from __future__ import annotations

import re
from pathlib import Path

from graycat.engines.process.libraries import LIBRARIES

#: So much of the end of the output is read.
MAX_READ_BYTES = 8192
#: What is known, and what is said of it. The groups are names of files, packages and versions.
KNOWN = (
    (
        re.compile(rb"([\w.+-]{1,80}\.so[\w.]{0,20}): cannot open shared object file"),
        "the shared library {} is missing on this machine{}",
    ),
    (
        re.compile(rb"version `([A-Z]{1,20}_[\d.]{1,20})' not found"),
        "this machine's system libraries are older than the engine needs: {} is missing{}",
    ),
    (re.compile(rb"ModuleNotFoundError: No module named '([\w.]{1,80})'"), "the Python package {} is not installed{}"),
)
#: How what engines often lack is installed.
HINTS = {
    **{name: f" (apt-get install {debian}, or dnf install {fedora})" for name, (debian, fedora) in LIBRARIES.items()},
    "libcuda.so.1": " (it comes with NVIDIA's driver)",
    "xllamacpp": " (pip install 'graycat[embedded]')",
}


def explain_exit(output: Path, since: int) -> str:
    """Return why the process could not start; '' if its output names no reason that is known.

    ``since``: how many bytes the output had at its start. Those are of earlier processes.
    """
    try:
        with output.open("rb") as file:
            size = file.seek(0, 2)
            # It was rotated meanwhile if it is shorter than it was.
            begin = max(since if size >= since else 0, size - MAX_READ_BYTES)
            file.seek(begin)
            text = file.read(MAX_READ_BYTES)
    except OSError:
        return ""
    for pattern, words in KNOWN:
        found = pattern.search(text)
        if found is not None:
            name = found[1].decode()
            return words.format(name, HINTS.get(name, ""))
    return ""
