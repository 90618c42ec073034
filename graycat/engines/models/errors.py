"""Errors of downloads; ``graycat.errors`` shows where they stand in the tree."""

from __future__ import annotations

from graycat.errors import GraycatError


class DownloadFailed(GraycatError):
    """Raised when a checkpoint cannot be downloaded; the message names no address, which may hold a secret.

    ``permanent``: trying again at once would end the same.
    """

    def __init__(self, reason: str, *, permanent: bool = False) -> None:
        super().__init__(reason)
        self.permanent = permanent
