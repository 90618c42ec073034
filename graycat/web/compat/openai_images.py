"""Image APIs other than the WebUI's: graycat's ``/generate-image``, and OpenAI's ``/v1/images``."""

from __future__ import annotations

import json
import time
from base64 import b64decode, b64encode
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, Response, g, jsonify, request
from flask.typing import ResponseReturnValue
from werkzeug.datastructures import FileStorage

from graycat.auth.tokens import SD
from graycat.bounds.stored import parse_json
from graycat.errors import EngineProtocolError, RequestError, TaskCancelled, UnsupportedParameter
from graycat.fleet.catalogs import requested_checkpoint, workers_with
from graycat.images import openai_requests, webui_requests
from graycat.images.openai_requests import ImageRequest
from graycat.images.output import FIELD as OUTPUT_FIELD
from graycat.queue.kinds import IMG2IMG, PLAIN, TXT2IMG, Kind
from graycat.settings import Settings
from graycat.web.auth import scope_required, token_auth
from graycat.web.compat.image_tasks import (
    Body,
    allow_large_body,
    check_image_body,
    check_own_fields,
    run_image_task,
    run_in_thread,
)
from graycat.web.compat.openai_image_stream import ImageStream, image_format
from graycat.web.compat.route import read_object
from graycat.web.errors import error_response
from graycat.web.limits import pixel_limit
from graycat.web.services import services
from graycat.web.streaming.responses import is_async, stream_events, submit

bp = Blueprint("images", __name__)
bp.before_request(allow_large_body)

#: The routes whose errors name OpenAI's fields.
OPENAI_PATHS = "/v1/images/"
#: Steps of a request that names none. The WebUI's own default of 50 takes too long for such simple requests.
DEFAULT_STEPS = 20


@bp.errorhandler(RequestError)
def _name_own_field(error: RequestError) -> Response:
    """Answer an error with the field of OpenAI's, where the check is that of a generation's body."""
    if request.path.startswith(OPENAI_PATHS):
        error.param = openai_requests.own_param(error)
    return error_response(error)


def _make_check() -> Callable[[Body], Body]:
    """Return the check of a generation's body within the caller's limits."""
    return partial(webui_requests.check_generation, settings=services().settings, token_max_pixels=pixel_limit())


def _run_generation(kind: Kind, body: Body) -> tuple[Response, dict[str, Any]]:
    """Run a generation; return its response and its reply. The reply is empty unless the status is 200."""
    response = run_image_task(kind, body, _make_check())
    if response.status_code != 200:
        return response, {}
    return response, parse_json(response.get_data())


@bp.post("/generate-image")
@token_auth.login_required
@scope_required(SD)
def generate_image() -> ResponseReturnValue:
    """Make one image: ``{"prompt": ..., ...}`` with any field of txt2img, answered by the image and its info."""
    body = read_object()
    check_own_fields(body)
    if not isinstance(body.get("prompt"), str):
        raise RequestError("'prompt' is required: a string").at("prompt")
    generation = {"steps": DEFAULT_STEPS} | body | {"batch_size": 1, "n_iter": 1, "send_images": True}
    response, reply = _run_generation(TXT2IMG, generation)
    if not reply:
        return response
    info = _parse_info(reply.get("info"))
    if not reply.get("images"):
        if info.get("partial"):
            # It was interrupted before there was an image.
            raise TaskCancelled
        raise EngineProtocolError
    return jsonify(image_base64=reply["images"][0], info=info, task_id=g.task_id, **_warnings(reply))


def _warnings(reply: dict[str, Any]) -> dict[str, Any]:
    """Return what a render made otherwise than it was asked for, as a field of the answer; none if there is nothing."""
    if "warnings" not in reply:
        return {}
    return {"warnings": reply["warnings"]}


def _parse_info(info: Any) -> dict[str, Any]:
    try:
        return dict(parse_json(info))
    except (ValueError, TypeError):
        return {}


@bp.post("/v1/images/generations")
@token_auth.login_required
@scope_required(SD)
def generations() -> ResponseReturnValue:
    """Make images in OpenAI's form."""
    return _answer_openai(TXT2IMG, "image_generation", openai_requests.parse(read_object(), services().settings))


@bp.post("/v1/images/edits")
@token_auth.login_required
@scope_required(SD)
def edits() -> ResponseReturnValue:
    """Change an image in OpenAI's form: multipart with ``image``, ``prompt``, and ``mask`` (clear where to paint)."""
    fields = _read_form()
    files = _read_files()
    if "image" not in files:
        raise RequestError("'image' is required: a file of multipart/form-data").at("image")
    settings = services().settings
    image = _read_base64(files["image"], settings)
    mask = None
    if "mask" in files:
        mask = _read_base64(files["mask"], settings)
    asked = run_in_thread(partial(openai_requests.to_img2img, fields, image, mask, settings))
    return _answer_openai(IMG2IMG, "image_edit", asked)


def _read_form() -> dict[str, Any]:
    """Return the fields of a form. Raises UnsupportedParameter for one that comes twice."""
    fields: dict[str, Any] = {}
    for name, values in request.form.lists():
        if len(values) > 1:
            raise UnsupportedParameter(name[:100], "comes more than once")
        fields[name] = values[0]
    return fields


def _read_files() -> dict[str, FileStorage]:
    """Return the files of a form by their names. Raises UnsupportedParameter for any but one image and one mask."""
    files: dict[str, FileStorage] = {}
    for name, file in request.files.items(multi=True):
        base = name.removesuffix("[]")
        if base not in ("image", "mask"):
            raise UnsupportedParameter(name[:100], "is no file of this route; it takes 'image' and 'mask'")
        if base in files:
            raise UnsupportedParameter(f"{base}[1]", f"cannot be used: engines start from one {base}")
        files[base] = file
    return files


def _read_base64(file: FileStorage, settings: Settings) -> str:
    # One byte over the limit, so that a file that is too large is refused when it is decoded.
    return b64encode(file.stream.read(settings.max_image_bytes + 1)).decode()


def _answer_openai(kind: Kind, event_kind: str, asked: ImageRequest) -> ResponseReturnValue:
    """Run a generation and answer it in OpenAI's form, whole or as a stream of events."""
    body = _forget_unknown_model(asked.body)
    if asked.output is not None:
        body = body | {OUTPUT_FIELD: asked.output.to_field()}
    if asked.stream and not is_async():
        return _stream(kind, event_kind, asked, body)
    response, reply = _run_generation(kind, body)
    if not reply:
        return response

    images = reply.get("images") or []
    data = []
    for number, image in enumerate(images):
        if asked.response_format == "url":
            data.append({"url": _sign_url(g.task_id, number)})
        else:
            data.append({"b64_json": image})
    answer: dict[str, Any] = {"created": int(time.time()), "data": data, "background": "opaque"} | _warnings(reply)
    if images:
        # 32 characters are 24 bytes: enough to tell the format.
        answer["output_format"] = image_format(b64decode(images[0][:32]))
    return jsonify(answer)


def _forget_unknown_model(body: Body) -> Body:
    """Return a body without a checkpoint that no engine has, if the operator wants such requests served."""
    checkpoint = requested_checkpoint(body)
    if not checkpoint or not services().settings.serves_unknown_models:
        return body
    if workers_with(checkpoint, services().catalogs()):
        return body
    return {name: value for name, value in body.items() if name != "override_settings"}


def _sign_url(task_id: str, number: int) -> str:
    """Return the address of an image for a browser, which has no API token. It ends when the image does."""
    settings = services().settings
    base_url = settings.public_base or request.host_url.removesuffix("/")
    signed = services().image_links.sign(f"{task_id}/{number}", int(settings.artifact_ttl_s))
    return f"{base_url}/tasks/{task_id}/images/{number}?{urlencode(signed)}"


def _stream(kind: Kind, event_kind: str, asked: ImageRequest, body: Body) -> Response:
    checked, queue = check_image_body(kind, body, _make_check())
    gateway, artifacts = services().gateway, services().artifacts
    stream = ImageStream(
        submit(kind, queue, PLAIN, json.dumps(checked).encode()),
        gateway.records,
        artifacts,
        event_kind,
        size=f"{body['width']}x{body['height']}",
        quality=asked.quality,
        partial_images=asked.partial_images,
        keepalive_s=gateway.settings.keepalive_s,
    )
    return stream_events(stream.pending, stream.encode, stream.keepalive_s)
