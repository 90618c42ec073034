"""The file formats of checkpoints: accepted names, first bytes and lengths."""

from __future__ import annotations

import json
import re
import unicodedata
from pathlib import Path

from graycat.engines.models.errors import DownloadFailed

#: Formats that contain numbers only.
SAFE_SUFFIXES = (".gguf", ".safetensors")
#: Python pickles: loading one can run any code of its author.
PICKLE_SUFFIXES = (".ckpt", ".pt", ".pth", ".bin")
PICKLE_NOTE = (
    "it is a pickled checkpoint, which can run code on this machine when it is loaded: use a .safetensors file, or set "
    "GRAYCAT_ALLOW_PICKLE=true if you trust its author"
)
#: The first bytes of a file, enough to recognise its format.
HEAD_BYTES = 16
MAX_NAME_CHARS = 120
#: The limit of the .safetensors format itself; a longer header is invalid.
MAX_SAFETENSORS_HEADER_BYTES = 100_000_000
#: A shorter .gguf file does not even contain its counts.
MIN_GGUF_BYTES = 24


def is_checkpoint_name(name: str, allow_pickle: bool) -> bool:
    """Return whether a file of this name is accepted as a checkpoint."""
    if allow_pickle:
        return name.lower().endswith(SAFE_SUFFIXES + PICKLE_SUFFIXES)
    return name.lower().endswith(SAFE_SUFFIXES)


def is_pickle_name(name: str) -> bool:
    """Return whether a file of this name can run code when it is loaded."""
    return name.lower().endswith(PICKLE_SUFFIXES)


def clean_name(text: str) -> str:
    """Return a safe file name made from an untrusted one: no folders, no leading dot, no special characters.

    Returns '' if nothing usable is left.
    """
    last_part = unicodedata.normalize("NFC", text).replace("\\", "/").rpartition("/")[2]
    name = re.sub(r"[^\w.+@=()-]", "_", last_part).lstrip("._-")
    stem, dot, suffix = name.rpartition(".")
    if not stem or len(suffix) >= MAX_NAME_CHARS:
        return ""
    return f"{stem[:MAX_NAME_CHARS]}{dot}{suffix}"


def choose_name(candidates: tuple[str, ...], allow_pickle: bool) -> str:
    """Return the first candidate that is accepted as a checkpoint's name, cleaned. Raises DownloadFailed if none is."""
    names = [clean_name(candidate) for candidate in candidates]
    for name in names:
        if is_checkpoint_name(name, allow_pickle):
            return name
    if any(map(is_pickle_name, names)):
        raise DownloadFailed(PICKLE_NOTE, permanent=True)
    raise DownloadFailed(f"the file's name must end in {' or '.join(SAFE_SUFFIXES)}", permanent=True)


def check_head(name: str, head: bytes) -> None:
    """Raise DownloadFailed if the first bytes of a file do not fit the format that its name announces."""
    if name.lower().endswith(".gguf"):
        fits = head.startswith(b"GGUF")
    elif name.lower().endswith(".safetensors"):
        header_bytes = int.from_bytes(head[:8], "little")
        fits = head[8:9] == b"{" and 2 <= header_bytes <= MAX_SAFETENSORS_HEADER_BYTES
    else:
        # PyTorch's zip archive, or a bare pickle of protocol 2 to 4.
        is_zip = head.startswith(b"PK\x03\x04")
        is_pickle = head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04")
        fits = is_zip or is_pickle
    if fits:
        return

    reason = f"the content is not a {Path(name).suffix} file"
    if head.lstrip().startswith(b"<"):
        reason += ": it begins like a web page"
    raise DownloadFailed(reason, permanent=True)


def check_file(path: Path, name: str) -> None:
    """Raise DownloadFailed if a complete file does not have the format that ``name`` announces."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        check_head(name, head)
        if name.lower().endswith(".safetensors"):
            header_bytes = int.from_bytes(head[:8], "little")
            file.seek(8)
            tensor_bytes = _tensor_bytes(file.read(header_bytes))
            if tensor_bytes is None or size != 8 + header_bytes + tensor_bytes:
                raise DownloadFailed("the content is not a complete .safetensors file", permanent=True)
        elif name.lower().endswith(".gguf") and size < MIN_GGUF_BYTES:
            raise DownloadFailed("the content is not a complete .gguf file", permanent=True)


def _tensor_bytes(header: bytes) -> int | None:
    """Return how many bytes of tensors a .safetensors header announces; None if the header is invalid."""
    try:
        end = 0
        for name, tensor in json.loads(header).items():
            if name != "__metadata__":
                end = max(end, int(tensor["data_offsets"][1]))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return None
    return end
