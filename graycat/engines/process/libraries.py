"""Libraries of the system that the embedded text engine needs, and that small systems and containers lack."""

from __future__ import annotations

import ctypes
import sys

#: Each with the package that has it: Debian's and Ubuntu's, and Fedora's.
LIBRARIES = {"libgomp.so.1": ("libgomp1", "libgomp"), "libstdc++.so.6": ("libstdc++6", "libstdc++")}


def missing() -> str:
    """Return which library is missing and how to install it; '' if all are there."""
    if sys.platform != "linux":
        # Elsewhere the package brings its own.
        return ""
    for name, (debian, fedora) in LIBRARIES.items():
        try:
            ctypes.CDLL(name)
        except OSError:
            return f"{name}: apt-get install {debian}, or dnf install {fedora}"
    return ""
