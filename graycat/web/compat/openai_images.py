"""Images without the WebUI's wire: ``/generate-image``, and OpenAI's ``/v1/images``."""

from __future__ import annotations

import json
import re
import time
from base64 import b64encode
from functools import partial
from typing import Any

from flask import Blueprint, Response, g, jsonify, request
from flask.typing import ResponseReturnValue
from werkzeug.datastructures import FileStorage

from graycat import params
from graycat.auth.tokens import SD
from graycat.errors import EngineProtocolError, RequestError, TaskCancelled
from graycat.images import openai_requests, webui_requests
from graycat.queue.kinds import IMG2IMG, TXT2IMG, Kind
from graycat.settings import Settings
from graycat.web.auth import scope_required, token_auth
from graycat.web.compat.image_tasks import Body, render, run_in_thread, take_large_body
from graycat.web.compat.route import read_raw
from graycat.web.limits import token_max_pixels
from graycat.web.services import services

bp = Blueprint("images", __name__)
bp.before_request(take_large_body)

#: What a simple request gets that names no steps; the WebUI's own default of 50 is for those who wait.
STEPS = 20


def _settings() -> Settings:
    found: Settings = services().settings
    return found


def _rendered(kind: Kind, body: Body) -> tuple[Response, dict[str, Any]]:
    """Run a generation; return its response, and its reply where that is whole."""
    settings = _settings()
    most = token_max_pixels()
    response = render(kind, body, lambda given: webui_requests.check_generation(given, settings, most))
    return response, json.loads(response.get_data()) if response.status_code == 200 else {}


@bp.post("/generate-image")
@token_auth.login_required
@scope_required(SD)
def generate_image() -> ResponseReturnValue:
    """Make one image: ``{"prompt": ..., ...}`` with any field of txt2img, answered by the image and its info."""
    body = params.read_object(read_raw())
    if not isinstance(body.get("prompt"), str):
        raise RequestError("'prompt' is required: a string")
    wanted = {"steps": STEPS} | body | {"batch_size": 1, "n_iter": 1, "send_images": True}
    response, reply = _rendered(TXT2IMG, wanted)
    if not reply:
        return response
    info = _parsed(reply.get("info"))
    if not reply.get("images"):
        # Interrupted before there was anything to see.
        raise TaskCancelled if info.get("partial") else EngineProtocolError
    return jsonify(image_base64=reply["images"][0], info=info, task_id=g.task_id)


def _parsed(info: Any) -> dict[str, Any]:
    try:
        return dict(json.loads(info))
    except (ValueError, TypeError):
        return {}


@bp.post("/v1/images/generations")
@token_auth.login_required
@scope_required(SD)
def generations() -> ResponseReturnValue:
    """Make images in OpenAI's form."""
    body = params.read_object(read_raw())
    wanted = openai_requests.to_txt2img(body, STEPS)
    return _openai_reply(TXT2IMG, wanted, str(body.get("response_format") or "b64_json"))


@bp.post("/v1/images/edits")
@token_auth.login_required
@scope_required(SD)
def edits() -> ResponseReturnValue:
    """Change an image in OpenAI's form: multipart with ``image``, ``prompt``, and ``mask`` (clear where to paint)."""
    fields = request.form.to_dict()
    files = {name.removesuffix("[]"): file for name, file in request.files.items()}
    if "image" not in files:
        raise RequestError("'image' is required: a file of multipart/form-data")
    settings = _settings()
    image = _read(files["image"], settings)
    mask = _read(files["mask"], settings) if "mask" in files else None
    wanted = run_in_thread(partial(openai_requests.to_img2img, fields, image, mask, settings, STEPS))
    return _openai_reply(IMG2IMG, wanted, fields.get("response_format") or "b64_json")


def _read(file: FileStorage, settings: Settings) -> str:
    return b64encode(file.stream.read(settings.max_image_bytes + 1)).decode()


def _openai_reply(kind: Kind, body: Body, form: str) -> ResponseReturnValue:
    if form not in ("b64_json", "url"):
        raise RequestError("'response_format' must be 'b64_json' or 'url'")
    response, reply = _rendered(kind, body)
    if not reply:
        return response
    if form == "url":
        # The address wants the API token, as everything here.
        root = re.sub(r"/$", "", request.host_url)
        data = [{"url": f"{root}/tasks/{g.task_id}/images/{n}"} for n in range(len(reply.get("images", [])))]
    else:
        data = [{"b64_json": image} for image in reply.get("images", [])]
    return jsonify(created=int(time.time()), data=data, output_format="png")
