"""Files that a client writes: their names, and writing them so that nothing reads half a file."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from uuid import uuid4

from graycat.client.errors import InvalidArgument, UnexpectedReply


def image_file_name(pattern: str, task_id: str, number: int, extension: str) -> str:
    """Return the name of an image's file. Raises InvalidArgument for a pattern that makes none."""
    try:
        name = pattern.format(id=task_id, n=number, ext=extension)
    except (KeyError, ValueError, IndexError, AttributeError) as error:
        raise InvalidArgument(f"{pattern!r} may hold {{id}}, {{n}} and {{ext}}: {error}") from None
    if Path(name).name != name:
        raise InvalidArgument(f"{name!r} is not a file name: the pattern must not name folders")
    return name


def parse_manifest_path(file: str) -> PurePosixPath:
    """Return the path of a manifest's file, below its folder. Raises UnexpectedReply if it would lead elsewhere."""
    path = PurePosixPath(file)
    hidden = any(part.startswith(".") for part in path.parts)
    if path.is_absolute() or not path.parts or hidden or "\\" in file:
        raise UnexpectedReply("the manifest names a file outside of its folder")
    return path


def write_atomically(path: Path, data: bytes) -> Path:
    """Write a file and return its path. The file appears under its name only when it is complete and on disk.

    It is for its owner alone, like each folder that did not exist before: it may hold prompts.
    """
    _create_folder(path.parent)
    draft = path.with_name(f".{path.name}.{uuid4().hex}.part")
    try:
        with open(draft, "xb", opener=_open_private) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _create_folder(folder: Path) -> None:
    for parent in [*reversed(folder.parents), folder]:
        parent.mkdir(mode=0o700, exist_ok=True)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
