"""The groups of the operations in the OpenAPI document, by who calls them, and the operations' names."""

from __future__ import annotations

import re
from typing import Any

GAMES, CHAT, TASKS, IMAGES, WEBUI = "Games", "Chat", "Tasks", "Images", "WebUI"
BATCHES, SCHEDULES, OPERATORS, ALIASES = "Batches", "Schedules", "Operators", "Aliases"

#: The groups in the order in which they are shown, and what each is for.
GROUPS: dict[str, str] = {
    GAMES: "llama.cpp's own routes, as LLM for Unity and other games call them.",
    CHAT: "The text routes of OpenAI and Anthropic, for their SDKs.",
    TASKS: "Work that outlives its connection: submit it, ask for it by its id, follow its events.",
    IMAGES: "Images in one call: graycat's own form, and OpenAI's.",
    WEBUI: "The API of Stable Diffusion WebUI, for its clients; the API token may be sent as a password.",
    BATCHES: "Many images, made while no one else waits, with a gallery.",
    SCHEDULES: "Batches by the clock.",
    OPERATORS: "Health, metrics, API tokens and usage.",
    ALIASES: "Further paths of operations above, for clients that expect them there.",
}
#: The guide of each group that has one, by the name of its file in docs/.
GUIDES = {
    GAMES: "unity",
    CHAT: "models",
    TASKS: "tasks",
    IMAGES: "images",
    WEBUI: "images",
    BATCHES: "batches",
    SCHEDULES: "schedules",
    OPERATORS: "operating",
}
_BY_BLUEPRINT = {
    "llamacpp": GAMES,
    "openai": CHAT,
    "anthropic": CHAT,
    "tasks": TASKS,
    "events": TASKS,
    "webhooks": TASKS,
    "task_images": TASKS,
    "images": IMAGES,
    "workflows": IMAGES,
    "sdapi": WEBUI,
    "batches": BATCHES,
    "gallery": BATCHES,
    "schedules": SCHEDULES,
}
_BY_ENDPOINT = {"health.engine": GAMES}
#: Operations of an endpoint with several methods.
_NAMES = {("llamacpp.props", "POST"): "llamacpp.props.by.post"}
_WORD = re.compile(r"[A-Za-z0-9]+")


def group_name(endpoint: str, *, is_alias: bool) -> str:
    """Return the group of an operation: of its endpoint, or the group of all further paths."""
    if is_alias:
        return ALIASES
    if endpoint in _BY_ENDPOINT:
        return _BY_ENDPOINT[endpoint]
    return _BY_BLUEPRINT.get(endpoint.partition(".")[0], OPERATORS)


def tags(prefix: str = "") -> list[dict[str, Any]]:
    """Return the groups as the document lists them. ``prefix``: what stands before the paths of this server."""
    listed: list[dict[str, Any]] = []
    for name, description in GROUPS.items():
        group: dict[str, Any] = {"name": name, "description": description}
        if name in GUIDES:
            group["externalDocs"] = {"description": "The guide", "url": f"{prefix}/docs/guides/{GUIDES[name]}"}
        listed.append(group)
    return listed


def operation_id(endpoint: str, method: str, path: str, *, is_alias: bool) -> str:
    """Return the name of an operation, which generated clients call it by; it stays the same from release to release.

    Without underscores: Swagger UI takes one in an address for a space.
    """
    name = _NAMES.get((endpoint, method), endpoint)
    if is_alias:
        name = f"{method.lower()} {path}"
    first, *others = _WORD.findall(name)
    return str(first) + "".join(word[0].upper() + word[1:] for word in others)
