"""Scripts that an image request names: which may run, and what their arguments may hold."""

from __future__ import annotations

from typing import Any

from graycat.errors import RequestError
from graycat.images.errors import InvalidImage, ScriptNotAllowed
from graycat.images.places import find_place_in_arguments
from graycat.images.prompt_controls import check_script_lines

Body = dict[str, Any]


def check_scripts(body: Body, allowed: frozenset[str]) -> Body:
    """Return a body that names only ``allowed`` scripts (in upper or lower case). Raises ScriptNotAllowed.

    Others are left out if they ask for nothing: clients name scripts that they do not use (``webuiapi``, npm's
    ``stable-diffusion-api``), and an engine without such a script would refuse the request.
    """
    allowed_titles = {title.lower() for title in allowed}
    selected = body.get("script_name")
    if selected == "None":
        # What the WebUI's own page calls it.
        selected = None
    if selected not in (None, "") and (not isinstance(selected, str) or selected.lower() not in allowed_titles):
        raise _script_not_allowed("script_name", selected, allowed)
    used = _read_always_on(body.get("alwayson_scripts"), allowed)

    _check_arguments("alwayson_scripts", used)
    _check_arguments("script_args", body.get("script_args"))
    changes: Body = {}
    if used != body.get("alwayson_scripts", {}):
        changes["alwayson_scripts"] = used
    if selected != body.get("script_name"):
        changes["script_name"] = selected
    return body | changes


def _read_always_on(entries: Any, allowed: frozenset[str]) -> Body:
    """Return the entries of ``alwayson_scripts`` that ask for something. Raises ScriptNotAllowed, RequestError."""
    if entries is None or entries == []:
        return {}
    if not isinstance(entries, dict):
        raise RequestError("'alwayson_scripts' must be an object")
    allowed_titles = {title.lower() for title in allowed}
    used = {}
    for title, value in entries.items():
        if title.lower() in allowed_titles:
            used[title] = {} if value in (None, []) else value
        elif not _asks_for_nothing(value):
            raise _script_not_allowed("alwayson_scripts", title, allowed)
    return used


def _script_not_allowed(field: str, title: Any, allowed: frozenset[str]) -> ScriptNotAllowed:
    name = repr(title[:100]) if isinstance(title, str) else "of that value"
    return ScriptNotAllowed(f"{field!r}: the script {name} is not allowed; allowed scripts: {join_names(allowed)}")


def _asks_for_nothing(value: Any) -> bool:
    """Return whether an entry of ``alwayson_scripts`` has no arguments, or only such as switch the script off."""
    if isinstance(value, dict):
        if not value.keys() <= {"args"}:
            return False
        value = value.get("args")
    if not isinstance(value, list):
        return value in (None, "", {})
    return all(_is_off(argument) for argument in value)


def _is_off(argument: Any) -> bool:
    if isinstance(argument, dict):
        return not argument or argument.get("enabled") is False
    return argument is False or argument in (None, "", [])


def _check_arguments(path: str, value: Any) -> None:
    where = find_place_in_arguments(value, path)
    if where:
        raise InvalidImage(f"{where!r}: a script's arguments may hold no URLs and no file paths; send images as base64")
    check_script_lines(path, value)


def join_names(allowed: frozenset[str]) -> str:
    """Return the names that an error tells as allowed."""
    return ", ".join(sorted(allowed)) or "none"
