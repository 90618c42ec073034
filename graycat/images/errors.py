"""Errors about images and the bodies that ask for them; ``graycat.errors`` shows where they stand in the tree."""

from __future__ import annotations

from graycat.errors import RequestError


class InvalidImage(RequestError):
    """Raised when an image in a request is none that graycat takes: PNG, JPEG or WebP, whole, one frame, base64."""

    type = "invalid_image"


class ImageTooLarge(RequestError):
    """Raised when an image in a request has too many bytes or pixels; it was not decoded."""

    status, type = 413, "image_too_large"


class TooMuchWork(RequestError):
    """Raised when a request asks for more pixels, images or steps than one may."""

    type = "too_much_work"


class SettingNotAllowed(RequestError):
    """Raised when a request overrides a setting of the engine outside ``GRAYCAT_SD_OVERRIDE_SETTINGS``."""

    type = "setting_not_allowed"


class ScriptNotAllowed(RequestError):
    """Raised when a request names a script of the engine outside ``GRAYCAT_SD_SCRIPTS``."""

    type = "script_not_allowed"
