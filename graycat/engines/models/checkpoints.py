"""Which checkpoints an engine requires, where they are stored, and how to get all of them onto the disk."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from graycat import families
from graycat.engines.models import formats, metadata
from graycat.engines.models.errors import DownloadFailed
from graycat.engines.models.sources import CheckpointSource, parse_source
from graycat.errors import SettingsError
from graycat.settings import Settings, variable

if TYPE_CHECKING:
    from graycat.engines.models.downloads import ProgressCallback

TEXT, IMAGE = families.LLM.name, families.SD.name
#: For each family of engines: its settings, the one of its main checkpoint first, and their folders in GRAYCAT_HOME.
FOLDERS = {family.name: family.checkpoint_folders for family in families.FAMILIES}


@dataclass(frozen=True, slots=True)
class RequiredCheckpoint:
    """A checkpoint that a setting names: either a ``source`` to download into ``folder``, or a local ``file``."""

    variable: str
    folder: Path
    source: CheckpointSource | None = None
    file: Path | None = None

    @property
    def path(self) -> Path | None:
        """Return the path of the file; None if it has not been downloaded yet."""
        if self.source is None:
            return self.file
        return metadata.find(self.folder, self.source)


def image_models_folder(settings: Settings) -> Path:
    """Return the folder that contains ``Stable-diffusion``, ``Lora`` and ``VAE``, as an absolute path."""
    return (settings.home / "models" / "image" / "models").resolve()


def list_required(settings: Settings, kind: str) -> list[RequiredCheckpoint]:
    """Return the checkpoints that a kind of engine requires, in the order of its settings. Raises SettingsError."""
    required = []
    for name, folder in FOLDERS[kind].items():
        text = getattr(settings, name)
        if kind == TEXT and _local_path(text).is_file():
            # The path of a local file may contain spaces and commas.
            addresses = [text]
        else:
            addresses = re.split(r"[,\s]+", text)
        for address in addresses:
            if address:
                required.append(_parse_address(settings, variable(name), settings.home / folder, address, kind))
    return required


def _parse_address(settings: Settings, name: str, folder: Path, address: str, kind: str) -> RequiredCheckpoint:
    """Return the checkpoint at an address that the setting ``name`` contains. Raises SettingsError."""
    is_local = "://" not in address or address.startswith("file://")
    if kind == TEXT and is_local:
        path = _local_path(address)
        if not path.is_file():
            raise SettingsError(f"{name} must be a URL or the path of a GGUF file on this machine; {path} is no file")
        return RequiredCheckpoint(name, folder, file=path)
    return RequiredCheckpoint(name, folder, source=source_from_setting(settings, name, address))


def _local_path(text: str) -> Path:
    return Path(text.removeprefix("file://"))


def source_from_setting(settings: Settings, name: str, address: str) -> CheckpointSource:
    """Return the source at an address that the setting ``name`` contains. Raises SettingsError naming the variable."""
    if settings.hf_endpoint and not settings.hf_endpoint.startswith(("https://", "http://")):
        raise SettingsError("HF_ENDPOINT must look like https://HOST")
    try:
        source = parse_source(address, settings.hf_endpoint)
        if formats.is_pickle_name(source.name):
            formats.choose_name((source.name,), settings.allow_pickle)
    except ValueError as error:
        raise SettingsError(f"an address of {name} {error}") from None
    except DownloadFailed as error:
        raise SettingsError(f"{name}: {error}") from None
    return source


def list_missing(settings: Settings, kind: str) -> list[RequiredCheckpoint]:
    """Return the required checkpoints that are not on disk yet. Raises SettingsError."""
    return [checkpoint for checkpoint in list_required(settings, kind) if checkpoint.path is None]


def ensure(settings: Settings, kind: str, report: ProgressCallback, stop: threading.Event) -> list[Path]:
    """Return the paths of the checkpoints of a kind of engine; download those that are missing.

    ``report`` is called with the name of the current file and the progress over all files in percent. Raises
    DownloadFailed, also if ``stop`` is set meanwhile, and SettingsError.
    """
    # Imported here because it takes an HTTP client, which a worker whose checkpoints are on disk never uses.
    from graycat.engines.models import downloads

    required = list_required(settings, kind)
    paths = []
    for index, checkpoint in enumerate(required):

        def report_total(name: str, percent: float, index: int = index) -> None:
            report(name, (100 * index + percent) / len(required))

        if checkpoint.file is not None:
            paths.append(checkpoint.file)
        else:
            source = _require_source(checkpoint)
            paths.append(downloads.fetch(source, checkpoint.folder, settings, report_total, stop))
    return paths


def _require_source(checkpoint: RequiredCheckpoint) -> CheckpointSource:
    if checkpoint.source is None:
        raise ValueError("a local file has no source")
    return checkpoint.source


def main_checkpoint(settings: Settings, kind: str) -> Path | None:
    """Return the path of the checkpoint that the engine is started with; None if no setting names one.

    Before the download, this is a guess from the URL: the server may send another file name. Raises SettingsError.
    """
    main_variable = variable(next(iter(FOLDERS[kind])))
    for checkpoint in list_required(settings, kind):
        if checkpoint.variable == main_variable:
            path = checkpoint.path
            if path is None:
                path = checkpoint.folder / formats.clean_name(_require_source(checkpoint).name)
            return path
    return None
