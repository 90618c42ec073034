"""Errors of the client about images; ``graycat.client.errors`` has their bases, and the older ones."""

from __future__ import annotations

from graycat.client.errors import RequestError, UnsupportedParameter


class WorkflowNotFound(RequestError):
    """Raised when no worker has the operator's workflow that a kind names."""

    type = "workflow_not_found"


class WorkflowUnavailable(RequestError):
    """Raised when no engine has all that the operator's workflow names, such as its checkpoint."""

    type = "workflow_unavailable"


class UnknownName(RequestError):
    """Raised when no image engine has the sampler, scheduler, style, ... that an input names."""

    type = "unknown_name"


class PromptParameter(UnsupportedParameter):
    """Raised when a text of the input, such as a prompt, sets parameters of the engine."""

    type = "prompt_parameter"
