"""Errors of the artifact store; ``graycat.errors`` shows their place in the tree."""

from __future__ import annotations

from graycat.errors import GraycatError


class ArtifactsUnavailable(GraycatError):
    """Raised when the artifact store cannot be read or written."""

    status, type, retry_after_s = 503, "artifacts_unavailable", 5

    def __init__(self) -> None:
        super().__init__("the store of finished images does not answer; try again in a moment")


class ArtifactBroken(GraycatError):
    """Raised when a stored image's bytes are not those that were put: another try would return the same bytes."""

    type = "artifact_broken"

    def __init__(self) -> None:
        super().__init__("the stored image is damaged; make it again and tell the operator")
