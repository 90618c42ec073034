"""Which checkpoints an engine wants, where each of them lies, and having them there."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from pathlib import Path

from graycat.engines.models import downloads, formats, metadata
from graycat.engines.models.downloads import Report
from graycat.engines.models.errors import DownloadFailed
from graycat.engines.models.sources import Origin, parse
from graycat.errors import SettingsError
from graycat.settings import Settings, variable

TEXT, IMAGE = "text", "image"
#: Settings of each kind of engine, the engine's own checkpoint first, and their folders in GRAYCAT_HOME: those that the
#: WebUIs look into.
PLACES = {
    TEXT: {"model_url": "models/text"},
    IMAGE: {
        "sd_model_url": "models/image/models/Stable-diffusion",
        "lora_url": "models/image/models/Lora",
        "vae_url": "models/image/models/VAE",
    },
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """A checkpoint that a setting names: an ``origin``, downloaded into ``folder``, or a file of this machine."""

    variable: str
    folder: Path
    origin: Origin | None = None
    file: Path | None = None

    @property
    def path(self) -> Path | None:
        """Return where it is; None where it is not here yet."""
        return self.file if self.origin is None else metadata.find(self.folder, self.origin)


def image_models(settings: Settings) -> Path:
    """Return the folder with ``Stable-diffusion``, ``Lora`` and ``VAE`` in it."""
    return (settings.home / "models" / "image" / "models").resolve()


def wanted(settings: Settings, kind: str) -> list[Wanted]:
    """Return the checkpoints of a kind of engine, in the order of its settings. Raises SettingsError."""
    found = []
    for name, folder in PLACES[kind].items():
        text = getattr(settings, name)
        # A path of this machine may hold blanks and commas.
        words = [text] if kind == TEXT and _local(text).is_file() else re.split(r"[,\s]+", text)
        found += [_wanted(settings, variable(name), settings.home / folder, word, kind) for word in words if word]
    return found


def _wanted(settings: Settings, name: str, folder: Path, word: str, kind: str) -> Wanted:
    path = _local(word)
    if kind == TEXT and ("://" not in word or word.startswith("file://")):
        if not path.is_file():
            raise SettingsError(f"{name} must name a GGUF file of this machine, or an address; there is none at {path}")
        return Wanted(name, folder, file=path)
    return Wanted(name, folder, origin(settings, name, word))


def _local(text: str) -> Path:
    return Path(text.removeprefix("file://"))


def origin(settings: Settings, name: str, address: str) -> Origin:
    """Return where a checkpoint comes from. Raises SettingsError naming the variable."""
    if settings.hf_endpoint and not settings.hf_endpoint.startswith(("https://", "http://")):
        raise SettingsError("HF_ENDPOINT must look like https://HOST")
    try:
        found = parse(address, settings.hf_endpoint)
        if formats.is_pickled(found.name):
            formats.chosen_name((found.name,), settings.allow_pickle)
    except ValueError as error:
        raise SettingsError(f"an address of {name} {error}") from None
    except DownloadFailed as error:
        raise SettingsError(f"{name}: {error}") from None
    return found


def missing(settings: Settings, kind: str) -> list[Wanted]:
    """Return the checkpoints that are not here yet. Raises SettingsError."""
    return [want for want in wanted(settings, kind) if want.path is None]


def ensure(settings: Settings, kind: str, report: Report, stop: threading.Event) -> list[Path]:
    """Return the checkpoints of a kind of engine, downloaded where they are not here yet.

    ``report`` takes a file's name and how much of all files is here, in percent. Raises DownloadFailed, also when
    ``stop`` is set, and SettingsError.
    """
    wants = wanted(settings, kind)
    paths = []
    for index, want in enumerate(wants):

        def of_all(name: str, percent: float, index: int = index) -> None:
            report(name, (100 * index + percent) / len(wants))

        paths.append(want.file or downloads.fetch(_origin_of(want), want.folder, settings, of_all, stop))
    return paths


def _origin_of(want: Wanted) -> Origin:
    if want.origin is None:
        raise ValueError("a file of this machine has no origin")
    return want.origin


def own_checkpoint(settings: Settings, kind: str) -> Path | None:
    """Return where the checkpoint lies, or will lie, that an engine is told to load; None where no setting names one.

    Before it is here its name is the address's, which its server may correct. Raises SettingsError.
    """
    first = next(iter(PLACES[kind]))
    own = next((want for want in wanted(settings, kind) if want.variable == variable(first)), None)
    if own is None:
        return None
    return own.path or own.folder / formats.clean_name(_origin_of(own).name)
