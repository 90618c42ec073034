"""The WebUI's ``extra-single-image`` as a workflow: one image is made larger, by a model or by plain scaling."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graycat.engines.comfy import graph, pictures
from graycat.engines.comfy.catalog import PLAIN_UPSCALERS, ComfyCatalog, match_file
from graycat.engines.comfy.graph import Workflow
from graycat.engines.comfy.plans import Fetch, read_size
from graycat.engines.comfy.wire import History
from graycat.errors import EngineProtocolError, RequestError
from graycat.images.comfyui_fields import check_extras
from graycat.images.webui_fields import normalize
from graycat.settings import Settings

Size = tuple[int, int]
SAVED = "saved"
#: The WebUI's defaults.
DEFAULT_FACTOR, DEFAULT_SIDE = 2.0, 512
_NO_UPSCALER = ("", "none")
#: Scales what a model has made to the size that was asked for.
_LAST_METHOD = "lanczos"


@dataclass
class UpscalingPlan:
    """A checked request. ``model``: a file of ComfyUI's, '' for none. ``method``: a plain way to scale, '' for none.

    ``size``: of the image that is made. ``crop``: the image is cut to the form of that size.
    """

    uploads: Mapping[str, bytes]
    model: str
    method: str
    size: Size
    crop: bool
    strip: bool

    def build(self, files: Mapping[str, str], prefix: str) -> Workflow:
        """Return the workflow."""
        workflow: Workflow = {"image": {"class_type": "LoadImage", "inputs": {"image": files["image"]}}}
        source = ["image", 0]
        if self.model:
            workflow["upscaler"] = {"class_type": "UpscaleModelLoader", "inputs": {"model_name": self.model}}
            inputs: dict[str, Any] = {"upscale_model": ["upscaler", 0], "image": source}
            workflow["enlarged"] = {"class_type": "ImageUpscaleWithModel", "inputs": inputs}
            source = ["enlarged", 0]
        if self.model or self.method:
            inputs = {"image": source, "upscale_method": self.method or _LAST_METHOD}
            inputs |= {"width": self.size[0], "height": self.size[1], "crop": "center" if self.crop else "disabled"}
            workflow["scaled"] = {"class_type": "ImageScale", "inputs": inputs}
            source = ["scaled", 0]
        workflow[SAVED] = {"class_type": "SaveImage", "inputs": {"images": source, graph.PREFIX_INPUT: prefix}}
        return workflow

    def answer(self, history: History, fetch: Fetch) -> dict[str, Any]:
        """Return the WebUI's answer. Raises EngineProtocolError if there is no image."""
        files = history.files.get(SAVED, [])
        if not files:
            if history.outcome == "success":
                raise EngineProtocolError
            return {"html_info": "", "image": ""}
        data = fetch(files[0])
        read_size(data)
        if self.strip:
            data = pictures.strip_texts(data)
        return {"html_info": "", "image": b64encode(data).decode()}


def read_upscaling(body: Mapping[str, Any], catalog: ComfyCatalog, settings: Settings) -> UpscalingPlan:
    """Return what a body of extra-single-image asks for. Raises RequestError."""
    given = normalize(dict(body))
    check_extras(given)
    image, own_size = pictures.prepare_whole(given.get("image"), settings)
    model, method = _find_upscaler(str(given.get("upscaler_1") or ""), catalog)
    size, crop = own_size, False
    if model or method:
        size, crop = _target(given, own_size)
    return UpscalingPlan({"image": image}, model, method, size, crop, settings.comfyui_strip_workflow)


def _find_upscaler(name: str, catalog: ComfyCatalog) -> tuple[str, str]:
    """Return the file of a model, or a plain method. Raises RequestError."""
    wanted = name.strip().lower()
    if wanted in _NO_UPSCALER:
        return "", ""
    for label, method in PLAIN_UPSCALERS.items():
        if wanted == label.lower():
            return "", method
    model = match_file(name, catalog.upscale_models)
    if model is None:
        raise RequestError(
            f"'upscaler_1': the engine has no {json.dumps(name[:100])}; GET /sdapi/v1/upscalers lists those it has"
        ).at("upscaler_1")
    return model, ""


def _target(given: Mapping[str, Any], own: Size) -> tuple[Size, bool]:
    """Return the size of the enlarged image, and whether it is cut to that: as a WebUI reads ``resize_mode``."""
    factor = float(given.get("upscaling_resize", DEFAULT_FACTOR))
    if given.get("resize_mode", 0):
        target = (given.get("upscaling_resize_w", DEFAULT_SIDE), given.get("upscaling_resize_h", DEFAULT_SIDE))
        if given.get("upscaling_crop", True):
            return target, True
        # It covers the target, and may be larger.
        factor = max(target[0] / own[0], target[1] / own[1])
    return (max(round(own[0] * factor), 1), max(round(own[1] * factor), 1)), False
