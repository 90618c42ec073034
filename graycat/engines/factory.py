"""An engine of this machine and all that keeps it running: its process, its checkpoints, its supervisor."""

from __future__ import annotations

from dataclasses import dataclass, replace

from graycat.engines import gpus, llama, webui
from graycat.engines.base import Engine
from graycat.engines.models.background import BackgroundDownload
from graycat.engines.models.checkpoints import IMAGE, TEXT
from graycat.engines.process.child import ChildProcess, ShimmedProcess
from graycat.engines.process.supervisor import Supervisor
from graycat.settings import Settings, engine_environment

#: llama.cpp's servers read their key from here, where no list of processes shows it.
KEY_VARIABLE = "LLAMA_API_KEY"


@dataclass(frozen=True, slots=True)
class SupervisedEngine:
    """``child``: None for an engine that runs already. ``gpu``: the index of the one that it pins; None for the CPU."""

    engine: Engine
    supervisor: Supervisor
    child: ChildProcess | None
    gpu: int | None


def build_engine(settings: Settings, kind: str, gpu: int | None, *, own: bool = True) -> SupervisedEngine:
    """Return the engine of a kind (``llm`` or ``sd``) that the settings describe; ``own``: whether to start it.

    Raises SettingsError.
    """
    place = gpus.find_placement(settings, kind, gpu)
    engine: Engine
    if kind == "sd":
        engine = webui.build_image_engine(replace(settings, sd_port=place.port))
    else:
        own = own and settings.owns_llm_engine
        engine = llama.build_text_engine(replace(settings, llm_port=place.port), own=own, gpu=place.gpu)
    command = engine.command()
    output = settings.home / "log" / f"{kind}-engine{place.suffix}.log"
    key = {KEY_VARIABLE: settings.engine_api_key} if settings.engine_api_key else {}
    environment = engine_environment() | key | place.environment
    child = ShimmedProcess(engine.command, output, environment) if command else None
    download = BackgroundDownload(settings, IMAGE if kind == "sd" else TEXT) if command else None
    return SupervisedEngine(engine, Supervisor(engine, child, download), child, place.gpu)
