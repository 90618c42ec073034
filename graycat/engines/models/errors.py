"""Errors of downloads; ``graycat.errors`` shows their place in the error tree."""

from __future__ import annotations

from graycat.errors import GraycatError


class DownloadFailed(GraycatError):
    """Raised if a checkpoint cannot be downloaded. The message never contains the URL, which may hold a secret.

    ``permanent``: another attempt right away would fail in the same way.
    """

    def __init__(self, reason: str, *, permanent: bool = False) -> None:
        super().__init__(reason)
        self.permanent = permanent
