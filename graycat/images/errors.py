"""Errors about image requests; ``graycat.errors`` shows their place in the tree."""

from __future__ import annotations

from collections.abc import Sequence

from graycat.errors import RequestError, UnsupportedParameter
from graycat.images.engine_names import Unknown


class InvalidImage(RequestError):
    """Raised when an image in a request is not a whole PNG, JPEG or WebP of one frame, in base64."""

    type = "invalid_image"


class ImageTooLarge(RequestError):
    """Raised when an image in a request has too many bytes or pixels. It has not been decoded then."""

    status, type = 413, "image_too_large"


class TooMuchWork(RequestError):
    """Raised when a request asks for more pixels, images or steps than one request may."""

    type = "too_much_work"


class SettingNotAllowed(RequestError):
    """Raised when a request overrides an engine setting that is not in ``GRAYCAT_SD_OVERRIDE_SETTINGS``."""

    type = "setting_not_allowed"


class ScriptNotAllowed(RequestError):
    """Raised when a request names an engine script that is not in ``GRAYCAT_SD_SCRIPTS``."""

    type = "script_not_allowed"


class WorkflowNotFound(RequestError):
    """Raised when no worker has the operator's workflow that a request names."""

    status, type = 404, "workflow_not_found"


class WorkflowUnavailable(RequestError):
    """Raised when no engine has the checkpoint, LoRA, ... that the operator's workflow names: waiting does not help."""

    status, type = 409, "workflow_unavailable"

    def __init__(self, name: str, missing: Sequence[str]) -> None:
        why = "; ".join(missing) or "something in it"
        super().__init__(f"the workflow {name[:100]!r} cannot run, its operator has to mend it: {why}")


class PromptParameter(UnsupportedParameter):
    """Raised when the text of a prompt, or of another field, sets parameters of an engine."""

    type = "prompt_parameter"


class UnknownName(RequestError):
    """Raised when a request names a sampler, a scheduler or the like that no image engine has.

    The engine would take another one in its place, without a word. ``path``: the field, with dots.
    """

    type = "unknown_name"

    def __init__(self, unknown: Unknown) -> None:
        self.path = self.param = unknown.path
        nearest = " or ".join(repr(name) for name in unknown.nearest)
        hint = f"; did you mean {nearest}?" if nearest else "; the engine's lists under /sdapi/v1/ have the names"
        super().__init__(f"{unknown.path!r}: no image engine has the {unknown.what} {unknown.name[:100]!r}{hint}")
