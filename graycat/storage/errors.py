"""Errors of the store of finished images; ``graycat.errors`` shows where they stand in the tree."""

from __future__ import annotations

from graycat.errors import GraycatError


class ArtifactsUnavailable(GraycatError):
    """Raised when the store of finished images cannot be read or written."""

    status, type, retry_after_s = 503, "artifacts_unavailable", 5

    def __init__(self) -> None:
        super().__init__("the store of finished images does not answer; try again in a moment")


class ArtifactBroken(GraycatError):
    """Raised when a stored image's bytes are not the ones that were put: trying again would bring the same."""

    type = "artifact_broken"

    def __init__(self) -> None:
        super().__init__("the stored image is damaged; make it again and tell the operator")
