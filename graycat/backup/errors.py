"""What goes wrong with a backup; each message is a sentence for the operator who runs the command."""

from __future__ import annotations

from graycat.errors import GraycatError


class BackupError(GraycatError):
    """Raised by ``graycat backup`` and ``graycat restore`` alone; nobody sends it over HTTP."""
