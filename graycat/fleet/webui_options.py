"""Checks a change of engines' settings against what the workers report, before any engine is changed.

A1111 answers an unknown setting and an unknown checkpoint with 500, and takes a value of any type: from then on its own
``GET /options`` fails (``modules/api/api.py``, ``set_config`` and ``get_config``, v1.10.1).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from graycat.bounds.names import MAX_CHARS, find_nearest
from graycat.errors import RequestError, UnsupportedParameter
from graycat.fleet.catalogs import workers_with
from graycat.images.engine_names import Unknown
from graycat.images.errors import UnknownName

CHECKPOINT = "sd_model_checkpoint"
_WORDS = frozenset({"0", "1", "off", "on", "f", "t", "false", "true", "n", "y", "no", "yes"})

Catalogs = Mapping[str, Mapping[str, Any]]


def check_options(changes: Mapping[str, Any], catalogs: Catalogs) -> None:
    """Raise an error for a setting that no engine has, a checkpoint that none lists, or a value of the wrong type.

    ``changes``: the body of a ``POST /options``. ``catalogs``: the engines' lists by the name of their worker. Raises
    UnsupportedParameter, UnknownName, RequestError. What an engine does not report cannot be told, and passes.
    """
    checkpoint = changes.get(CHECKPOINT)
    if isinstance(checkpoint, str) and checkpoint:
        _check_checkpoint(checkpoint, catalogs)
    reported = [catalog.get("options") for catalog in catalogs.values()]
    settings = [options for options in reported if isinstance(options, dict) and options]
    if not settings or len(settings) < len(reported):
        return
    for name, value in changes.items():
        current = [options[name] for options in settings if name in options]
        if not current:
            nearest = find_nearest(name, settings[0])
            hint = f"did you mean {nearest!r}?" if nearest else "GET /sdapi/v1/options lists them"
            raise UnsupportedParameter(name[:MAX_CHARS], f"no image engine has this setting; {hint}")
        problems = [_find_problem(value, one) for one in current]
        if all(problems):
            raise RequestError(f"{name[:MAX_CHARS]!r} must be {problems[0]}").at(name[:MAX_CHARS])


def _check_checkpoint(checkpoint: str, catalogs: Catalogs) -> None:
    """Refuse a checkpoint that an engine does not list: the change goes to all, and would end half done."""
    lists = [catalog.get("sd-models") for catalog in catalogs.values()]
    if not all(isinstance(models, list) and models for models in lists):
        return
    having = workers_with(checkpoint, catalogs)
    if not having:
        nearest = find_nearest(checkpoint, _names(lists))
        raise UnknownName(Unknown(CHECKPOINT, "checkpoint", checkpoint, (nearest,) if nearest else ()))
    lacking = ", ".join(worker for worker in catalogs if worker not in having)
    if lacking:
        raise RequestError(
            f"{CHECKPOINT!r}: the change goes to every image engine, and {lacking[:MAX_CHARS]} has no "
            f"{checkpoint[:MAX_CHARS]!r}; nothing was changed. "
            "'override_settings' of a request chooses an engine that has it"
        ).at(CHECKPOINT)


def _names(lists: Iterable[Any]) -> set[str]:
    """Return the names and titles of the checkpoints of all engines."""
    found: set[str] = set()
    for models in lists:
        for model in models:
            if isinstance(model, Mapping):
                found.update(str(model[key]) for key in ("model_name", "title") if model.get(key))
    return found


def _find_problem(value: Any, current: Any) -> str:
    """Return what a value must be, by the setting's current one; '' if it may be right. Null is, for any."""
    if value is None or current is None:
        return ""
    if isinstance(current, list):
        return "" if isinstance(value, list) else "a list"
    if isinstance(current, dict):
        return "" if isinstance(value, dict) else "an object"
    if isinstance(current, bool):
        return "" if str(value).lower() in _WORDS | {"0.0", "1.0"} else "true or false"
    if isinstance(current, (int, float)):
        return "" if _is_number(value) else "a number"
    return "a string" if isinstance(value, (list, dict)) else ""


def _is_number(value: Any) -> bool:
    """Return whether an engine reads a value as a number: also from a text, as it does in requests."""
    try:
        float(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True
