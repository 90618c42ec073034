from __future__ import annotations

from graycat.engines.comfyui import build_comfyui
from graycat.engines.llama import LlamaEngine
from graycat.engines.renders import ImageEngine
from graycat.engines.webui import WebuiEngine
from graycat.settings import Settings


def test_image_engines_render_and_text_engines_do_not() -> None:
    assert isinstance(WebuiEngine("webui", "http://box:1", start=None), ImageEngine)
    assert isinstance(build_comfyui(Settings(comfyui_url="http://box:1")), ImageEngine)
    assert not isinstance(LlamaEngine("text", "http://box:1", start=None), ImageEngine)
