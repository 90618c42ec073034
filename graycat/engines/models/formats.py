"""What a checkpoint file is: its name, its first bytes, and how long it must be."""

from __future__ import annotations

import json
import re
import unicodedata
from pathlib import Path

from graycat.engines.models.errors import DownloadFailed

#: Formats that hold numbers and nothing else.
SAFE = (".gguf", ".safetensors")
#: Python pickles: loading one runs what its maker wants.
PICKLED = (".ckpt", ".pt", ".pth", ".bin")
PICKLE_NOTE = (
    "it is a pickled checkpoint, which can run code here when it is loaded: take a .safetensors, or set "
    "GRAYCAT_ALLOW_PICKLE=true if you trust whoever made it"
)
#: Bytes that tell what a file is.
HEAD_BYTES = 16
MAX_NAME_CHARS = 120
#: A longer header of a .safetensors makes no sense; the format's own limit.
MAX_SAFETENSORS_HEADER = 100_000_000
#: A .gguf of fewer bytes has not even its counts.
LEAST_GGUF_BYTES = 24


def permitted(name: str, allow_pickle: bool) -> bool:
    """Tell whether a file of this name may be a checkpoint."""
    return name.lower().endswith(SAFE + PICKLED if allow_pickle else SAFE)


def is_pickled(name: str) -> bool:
    """Tell whether a file of this name runs code when it is loaded."""
    return name.lower().endswith(PICKLED)


def clean_name(text: str) -> str:
    """Return a file name out of what somebody else calls it: no folders, nothing hidden or odd, perhaps ''."""
    last = unicodedata.normalize("NFC", text).replace("\\", "/").rpartition("/")[2]
    name = re.sub(r"[^\w.+@=()-]", "_", last).lstrip("._-")
    stem, dot, suffix = name.rpartition(".")
    return f"{stem[:MAX_NAME_CHARS]}{dot}{suffix}" if stem and len(suffix) < MAX_NAME_CHARS else ""


def chosen_name(candidates: tuple[str, ...], allow_pickle: bool) -> str:
    """Return the first name that a checkpoint may have, cleaned. Raises DownloadFailed where there is none."""
    names = [clean_name(candidate) for candidate in candidates]
    for name in names:
        if permitted(name, allow_pickle):
            return name
    if any(map(is_pickled, names)):
        raise DownloadFailed(PICKLE_NOTE, permanent=True)
    raise DownloadFailed(f"it is no checkpoint: its name ends neither in {' nor in '.join(SAFE)}", permanent=True)


def check_head(name: str, head: bytes) -> None:
    """Raise DownloadFailed where a file that begins so is not what its name says."""
    if name.lower().endswith(".gguf"):
        right = head.startswith(b"GGUF")
    elif name.lower().endswith(".safetensors"):
        right = head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= MAX_SAFETENSORS_HEADER
    else:
        # PyTorch's zip, or a bare pickle of protocol 2 or later.
        right = head.startswith(b"PK\x03\x04") or (head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04"))
    if not right:
        hint = ": it begins as a web page does" if head.lstrip().startswith(b"<") else ""
        raise DownloadFailed(f"what came is no {Path(name).suffix} file{hint}", permanent=True)


def check(path: Path, name: str) -> None:
    """Raise DownloadFailed where a whole file is not what its name says."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        check_head(name, head)
        if name.lower().endswith(".safetensors"):
            header_bytes = int.from_bytes(head[:8], "little")
            file.seek(8)
            data_bytes = _data_bytes(file.read(header_bytes))
            if data_bytes is None or size != 8 + header_bytes + data_bytes:
                raise DownloadFailed("what came is no whole .safetensors file", permanent=True)
        elif name.lower().endswith(".gguf") and size < LEAST_GGUF_BYTES:
            raise DownloadFailed("what came is no whole .gguf file", permanent=True)


def _data_bytes(header: bytes) -> int | None:
    """Return how many bytes of tensors a .safetensors header announces; None where it cannot be read."""
    try:
        tensors = json.loads(header)
        return max((int(t["data_offsets"][1]) for name, t in tensors.items() if name != "__metadata__"), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return None
