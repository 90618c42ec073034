"""What Forge, SD.Next and sd-server (stable-diffusion.cpp) do otherwise than A1111 v1.10.1, over the same renderer."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from typing import Any

from flask import Flask, Response, request
from werkzeug.exceptions import NotFound

from graycat.engines.placeholder import bodies, catalog, schema
from graycat.engines.placeholder.app import PREFIX, create_app
from graycat.engines.placeholder.errors import HTTPException
from graycat.engines.placeholder.renderer import Body, Renderer
from graycat.engines.placeholder.schema import Field, Invalid
from graycat.engines.placeholder.wire import read_fields, read_json, reply

View = Callable[[], Response]

#: pydantic 2's type and message for those of pydantic 1.
PYDANTIC_2 = {
    "type_error.integer": ("int_parsing", "Input should be a valid integer, unable to parse string as an integer"),
    "type_error.float": ("float_parsing", "Input should be a valid number, unable to parse string as a number"),
    "type_error.bool": ("bool_parsing", "Input should be a valid boolean, unable to interpret input"),
    "type_error.list": ("list_type", "Input should be a valid list"),
    "type_error.dict": ("dict_type", "Input should be a valid dictionary"),
    "type_error.none.not_allowed": ("string_type", "Input should be a valid string"),
    "value_error.missing": ("missing", "Field required"),
    "value_error.jsondecode": ("json_invalid", "JSON decode error"),
}

SDNEXT_DEFAULTS = {"steps": 20, "width": 1024, "height": 1024, "cfg_scale": 6.0, "sampler_name": "Default"}
#: Control calls that SD.Next answers with 204 and nothing.
SDNEXT_SILENT = (
    "interrupt",
    "skip",
    "refresh-checkpoints",
    "refresh-vae",
    "unload-checkpoint",
    "reload-checkpoint",
)
SDNEXT_MISSING = (
    "hypernetworks",
    "realesrgan-models",
    "latent-upscale-modes",
    "interrogate",
    "refresh-embeddings",
    "/internal/ping",
)

#: All that sd-server has of the API.
SD_SERVER_HAS = (
    *("txt2img", "img2img", "loras", "upscalers", "latent-upscale-modes", "samplers", "schedulers", "sd-models"),
    "options",
)
#: What the real one lists (stable-diffusion-cpp-python 0.4.7), and the sampler of the double that stands for it.
SD_SERVER_SAMPLERS = {
    "default": "Euler a",
    "euler": "Euler",
    "euler_a": "Euler a",
    "heun": "Heun",
    "dpm2": "DPM2",
    "dpm++2s_a": "DPM++ 2S a",
    "dpm++2m": "DPM++ 2M",
    "lcm": "LCM",
    "ddim_trailing": "DDIM",
}
SD_SERVER_SCHEDULERS = ("default", "discrete", "karras", "exponential", "ays", "sgm_uniform", "simple", "kl_optimal")
#: Its model's hash is always this.
SD_SERVER_HASH = "8888888888"


def override(app: Flask, method: str, path: str, view: View) -> None:
    """Have a route answer otherwise; a new one is added."""
    endpoint = f"{method} {path}"
    if endpoint in app.view_functions:
        app.view_functions[endpoint] = view
    else:
        app.add_url_rule(path, endpoint, view, methods=[method])


def get(app: Flask, name: str, body: Any) -> None:
    """Have a list answer with another one."""
    override(app, "GET", f"{PREFIX}/{name}", lambda: reply(body))


def keep_only(app: Flask, kept: Callable[[str], bool]) -> None:
    """Have all paths answer 404 but those that are ``kept``; a path is given without the prefix."""

    @app.before_request
    def refuse() -> None:
        if not kept(request.path.removeprefix(f"{PREFIX}/")):
            raise NotFound


def rewrite_errors(app: Flask, rewrite: Callable[[Any, int], Any]) -> None:
    """Have ``rewrite`` turn the parsed body of every error, of that status, into another."""

    @app.after_request
    def rewritten(response: Response) -> Response:
        if response.status_code >= 400:
            response.set_data(json.dumps(rewrite(json.loads(response.get_data()), response.status_code)))
        return response


def a1111(renderer: Renderer) -> Flask:
    """A1111 v1.10.1: as the placeholder is."""
    return create_app(renderer)


def strict(fields: tuple[Field, ...]) -> tuple[Field, ...]:
    """Return the fields as pydantic 2 coerces them: no number is cut to an int, none is printed as a string."""

    def integer(value: Any) -> int:
        if isinstance(value, float) and not value.is_integer():
            msg = "Input should be a valid integer, got a number with a fractional part"
            raise schema.invalid(msg, "int_from_float")
        return schema.integer(value)

    def text(value: Any) -> str:
        if not isinstance(value, str):
            raise schema.invalid("Input should be a valid string", "string_type")
        return value

    stricter: dict[schema.Coerce, schema.Coerce] = {schema.integer: integer, schema.text: text}
    return tuple(Field(f.name, stricter.get(f.coerce, f.coerce), f.default, f.nullable, f.required) for f in fields)


def pydantic_2_item(problem: dict[str, Any]) -> dict[str, Any]:
    """Return an item of a 422 as pydantic 2 has it, which quotes the input."""
    kind, msg = PYDANTIC_2.get(problem["type"], (problem["type"], problem["msg"]))
    value = request.get_json(silent=True)
    for key in problem["loc"][1:]:
        value = value.get(key, value) if isinstance(value, dict) else value
    url = f"https://errors.pydantic.dev/2.8/v/{kind}"
    return {"type": kind, "loc": problem["loc"], "msg": msg, "input": value, "url": url}


def forge(renderer: Renderer) -> Flask:
    """Forge: errors in ``detail`` alone, pydantic 2, modules instead of VAEs."""
    extra = (Field("distilled_cfg_scale", schema.number, 3.5),)
    hires = (
        Field("hr_cfg", schema.number, 1.0),
        Field("hr_distilled_cfg", schema.number, 3.5),
        Field("hr_additional_modules", schema.array),
    )
    app = create_app(renderer, strict(bodies.TXT2IMG + extra + hires), strict(bodies.IMG2IMG + extra))

    @app.before_request
    def keep_body() -> None:
        request.get_data(cache=True)  # the items of a 422 quote from it

    def rewrite(body: Any, status: int) -> Any:
        if isinstance(body["detail"], list):
            return {"detail": [pydantic_2_item(problem) for problem in body["detail"]]}
        if status == 500 and body["error"] != "HTTPException":
            return {"error": body["error"], "detail": "", "body": "", "message": body["errors"]}
        return {"detail": body["detail"]}

    rewrite_errors(app, rewrite)
    keep_only(app, lambda name: name != "sd-vae")
    get(app, "sd-modules", [])
    # Here the options keep their JSON types.
    get(app, "samplers", [s.to_dict() | {"options": dict.fromkeys(s.traits, True)} for s in catalog.SAMPLERS.values()])
    return app


def sdnext_error(body: Any, status: int) -> Any:
    """Return an error in SD.Next's shape."""
    if body.get("error") == "TypeError":
        return body["errors"]
    if "errors" in body:
        return body | {"code": status}
    return body


def sdnext(renderer: Renderer) -> Flask:
    """SD.Next: empty 204s, unknown samplers refused, its own defaults and lists."""
    app = create_app(renderer)
    known = {name.lower(): s.name for s in catalog.SAMPLERS.values() for name in (s.name, s.alias)}
    known["default"] = "Euler a"

    def generate(call: Callable[[Body, set[str]], Body], fields: tuple[Field, ...]) -> Response:
        body, given = read_fields(fields)
        asked = body["sampler_name"] or "Default"
        if asked.lower() not in known:
            raise HTTPException(404, "Sampler not found")
        if "init_images" in body and not body["init_images"]:
            return reply({"error": "Init image not found"}, 400)
        answer = call(body | {"sampler_name": known[asked.lower()]}, given)
        info = {k: v for k, v in json.loads(answer["info"]).items() if k not in ("sd_model_name", "version")}
        parameters = answer["parameters"] | {"sampler_name": asked}
        return reply(answer | {"parameters": parameters, "info": json.dumps(info) if answer["images"] else ""})

    def progress() -> Response:
        body = renderer.progress(skip_current_image=request.args.get("skip_current_image") == "true")
        body["state"].pop("stopping_generation")
        rounded = {key: round(body[key], 2) for key in ("progress", "eta_relative")}
        return reply({"id": ""} | body | rounded)

    def options() -> Response:
        changes = read_json()
        renderer.options.update(changes)
        return reply({"updated": [{name: True} for name in changes]})

    txt2img_fields = schema.replace_defaults(bodies.TXT2IMG, **SDNEXT_DEFAULTS)
    img2img_fields = schema.replace_defaults(bodies.IMG2IMG, **SDNEXT_DEFAULTS, denoising_strength=0.5)
    override(app, "POST", f"{PREFIX}/txt2img", lambda: generate(renderer.txt2img, txt2img_fields))
    override(app, "POST", f"{PREFIX}/img2img", lambda: generate(renderer.img2img, img2img_fields))
    override(app, "GET", f"{PREFIX}/progress", progress)
    override(app, "POST", f"{PREFIX}/options", options)
    for name in SDNEXT_SILENT:
        silence(app, f"POST {PREFIX}/{name}")
    rewrite_errors(app, sdnext_error)
    keep_only(app, lambda name: name not in SDNEXT_MISSING)
    get(app, "embeddings", {"loaded": [], "skipped": []})
    get(app, "samplers", [{"name": s.name, "options": s.to_dict()["options"]} for s in catalog.SAMPLERS.values()])
    get(app, "schedulers", [{"name": s.label, "cls": s.name, "options": {}} for s in catalog.SCHEDULERS])
    return app


def silence(app: Flask, endpoint: str) -> None:
    """Have a call do what it does and answer with 204."""
    view: Any = app.view_functions[endpoint]

    def silent() -> Response:
        view()
        return Response(status=204)

    app.view_functions[endpoint] = silent


def sd_server(renderer: Renderer) -> Flask:
    """stable-diffusion.cpp's sd-server: no progress, no interrupt, no info, one batch, seeds of 31 bits."""
    app = create_app(renderer)
    fields = {
        # The parser takes img2img without an image.
        "txt2img": schema.replace_defaults(bodies.TXT2IMG, steps=20),
        "img2img": schema.replace_defaults(bodies.IMG2IMG, steps=20),
    }

    def generate(kind: str) -> Response:
        try:
            raw = json.loads(request.get_data())
            _refuse_texts(raw, fields[kind])
            nulls = [Field(f.name, f.coerce, f.default, nullable=False) for f in fields[kind]]
            body = schema.validate(raw, schema.model(nulls))
        except (ValueError, Invalid) as error:
            return reply({"error": "server_error", "message": str(error)}, 500)
        if not body["prompt"]:
            return reply({"error": "prompt required"}, 400)
        # An unknown sampler is the default one; sampler_index is not read.
        name = body["sampler_name"] or "default"
        body |= {"n_iter": 1, "sampler_name": SD_SERVER_SAMPLERS.get(name, "Euler a")}
        body |= {"batch_size": min(max(body["batch_size"], 1), 8), "steps": min(max(body["steps"], 1), 100)}
        body["seed"] = _sd_server_seed(body["seed"])
        without = kind == "img2img" and body["init_images"] is None
        job, working = ("scripts_txt2img", _as_txt2img(body)) if without else (f"scripts_{kind}", body)
        return reply({"images": renderer.generate(job, working)["images"], "parameters": raw, "info": ""})

    override(app, "POST", f"{PREFIX}/txt2img", lambda: generate("txt2img"))
    override(app, "POST", f"{PREFIX}/img2img", lambda: generate("img2img"))
    override(app, "GET", "/", lambda: Response("sd-server", content_type="text/plain"))
    rewrite_errors(app, _sd_server_error)
    keep_only(app, lambda name: name in SD_SERVER_HAS or name == "/")
    get(app, "samplers", [{"name": name, "aliases": [name], "options": {}} for name in SD_SERVER_SAMPLERS])
    get(app, "schedulers", [{"name": name, "label": name} for name in SD_SERVER_SCHEDULERS])
    get(app, "options", {"samples_format": "png", "sd_model_checkpoint": catalog.NAME})
    model = {"title": catalog.NAME, "model_name": catalog.NAME, "filename": catalog.NAME, "config": None}
    get(app, "sd-models", [model | {"hash": SD_SERVER_HASH, "sha256": "8" * 64}])
    return app


def _refuse_texts(raw: Body, fields: tuple[Field, ...]) -> None:
    """Raise ValueError if a text stands for a number: its JSON library has no such conversion."""
    for field in fields:
        if field.coerce in (schema.integer, schema.number) and isinstance(raw.get(field.name), str):
            raise ValueError("type must be number, but is string")


def _sd_server_seed(seed: int) -> int:
    """Return the seed that it renders with: it reads 32 bits, and draws a negative one by the clock's second."""
    seed = (seed + 2**31) % 2**32 - 2**31
    if seed < 0:
        seed = random.Random(int(time.time())).randrange(2**31)  # noqa: S311 (no secret)
    return seed


def _as_txt2img(body: Body) -> Body:
    defaults = schema.model(bodies.TXT2IMG)({})
    return defaults | {name: value for name, value in body.items() if name in defaults}


def _sd_server_error(body: Any, status: int) -> Any:
    """Crashes have a shape of their own."""
    return {"error": "server_error", "message": body["errors"]} if "errors" in body and status == 500 else body


PERSONALITIES: dict[str, Callable[[Renderer], Flask]] = {
    "a1111": a1111,
    "forge": forge,
    "sdnext": sdnext,
    "sd-server": sd_server,
}
