"""The routes, as the WebUI documents them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from flask import Flask, Response, request

from graycat.engines.placeholder import bodies, catalog, schema
from graycat.engines.placeholder.renderer import Renderer
from graycat.engines.placeholder.schema import Field
from graycat.engines.placeholder.wire import install, read_fields, read_json, reply

PREFIX = "/sdapi/v1"

#: Routes that do nothing here, because there are no model files and no weights in memory. Path, response, and whether
#: it waits for the running job.
IDLE_CALLS: tuple[tuple[str, Any, bool], ...] = (
    ("refresh-loras", None, False),
    ("refresh-checkpoints", None, True),
    ("refresh-vae", None, True),
    ("refresh-embeddings", None, True),
    ("unload-checkpoint", {}, False),
    ("reload-checkpoint", {}, False),
)


def create_app(
    renderer: Renderer, txt2img: Sequence[Field] = bodies.TXT2IMG, img2img: Sequence[Field] = bodies.IMG2IMG
) -> Flask:
    """Return the application. ``txt2img``, ``img2img``: the fields of these routes, for servers with other defaults."""
    app = Flask(__name__, static_folder=None)
    install(app)

    def route(method: str, path: str, view: Callable[[], Response]) -> None:
        app.add_url_rule(path, f"{method} {path}", view, methods=[method], provide_automatic_options=False)

    def post(name: str, view: Callable[[], Response]) -> None:
        route("POST", f"{PREFIX}/{name}", view)

    for name, items in catalog.LISTS.items():
        route("GET", f"{PREFIX}/{name}", partial(reply, items))
    for name, answer, waits in IDLE_CALLS:
        post(name, partial(idle_call, renderer, answer, waits))
    route("GET", "/internal/ping", lambda: reply({}))
    route("GET", f"{PREFIX}/memory", lambda: reply(catalog.read_memory()))
    route("GET", f"{PREFIX}/progress", lambda: progress(renderer))
    route("GET", f"{PREFIX}/options", lambda: reply(renderer.options.to_dict()))
    post("options", lambda: set_options(renderer))
    post("interrupt", lambda: interrupt(renderer))
    post("skip", lambda: skip(renderer))
    post("txt2img", lambda: reply(renderer.txt2img(*read_fields(txt2img))))
    post("img2img", lambda: reply(renderer.img2img(*read_fields(img2img))))
    post("extra-single-image", lambda: reply(renderer.extra_single(read_fields(bodies.EXTRA_SINGLE)[0])))
    post("extra-batch-images", lambda: reply(renderer.extra_batch(read_fields(bodies.EXTRA_BATCH)[0])))
    post("png-info", lambda: reply(renderer.png_info(read_fields(bodies.PNG_INFO)[0])))
    post("interrogate", lambda: reply(renderer.interrogate(read_fields(bodies.INTERROGATE)[0])))
    return app


def idle_call(renderer: Renderer, answer: Any, waits: bool) -> Response:
    """Do nothing. ``waits``: only after the running job and those that wait before it."""
    if waits:
        with renderer.jobs.lock.hold():
            pass
    return reply(answer)


def progress(renderer: Renderer) -> Response:
    """Return the progress of the running job."""
    (skip_current_image,) = bodies.PROGRESS
    try:
        skip = skip_current_image.read(request.args.to_dict())
    except schema.Invalid as error:
        raise error.prefixed("query") from None
    return reply(renderer.progress(skip_current_image=skip))


def set_options(renderer: Renderer) -> Response:
    """Change options for all requests."""
    renderer.options.update(schema.validate(read_json(), schema.mapping))
    return reply(None)


def interrupt(renderer: Renderer) -> Response:
    """End the running job at its next step; this sets a flag only, even if no job runs."""
    renderer.jobs.state.interrupted = True
    return reply({})


def skip(renderer: Renderer) -> Response:
    """End the running batch at its next step."""
    renderer.jobs.state.skipped = True
    return reply(None)
