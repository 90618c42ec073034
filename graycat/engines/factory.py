"""An engine of this machine and all that keeps it running: its process, its checkpoints, its supervisor."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

from graycat.engines import gpus
from graycat.engines.base import Engine
from graycat.engines.models.background import BackgroundDownload
from graycat.engines.process.child import ChildProcess, ShimmedProcess
from graycat.engines.process.supervisor import Supervisor
from graycat.families import EngineFamily
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


def build_engine(settings: Settings, family: EngineFamily, gpu: int | None, *, own: bool = True) -> SupervisedEngine:
    """Return the engine of a family that the settings describe; ``own``: whether to start it.

    Raises SettingsError.
    """
    place = gpus.find_placement(settings, family, gpu)
    engine = describe_engine(settings, family, place, own=own)
    command = engine.command()
    if command is None:
        return SupervisedEngine(engine, Supervisor(engine, None, None), None, place.gpu)
    environment = engine_environment()
    if settings.engine_api_key:
        environment[KEY_VARIABLE] = settings.engine_api_key
    environment.update(place.environment)
    output = settings.home / "log" / f"{family.name}-engine{place.suffix}.log"
    child = ShimmedProcess(engine.command, output, environment)
    download = BackgroundDownload(settings, family.name)
    return SupervisedEngine(engine, Supervisor(engine, child, download), child, place.gpu)


def describe_engine(
    settings: Settings, family: EngineFamily, place: gpus.Placement | None = None, *, own: bool = True
) -> Engine:
    """Return the engine that the settings describe, without anything that starts it. Raises SettingsError.

    ``place``: where it runs; without one, on the CPU and the port of the settings.
    """
    if place is not None:
        changes: dict[str, Any] = {family.port_setting: place.port}
        settings = replace(settings, **changes)
    module, _, function = family.engine.partition(":")
    build = getattr(import_module(module), function)
    gpu = place.gpu if place is not None else None
    engine: Engine = build(settings, own=own and family.owns_engine(settings), gpu=gpu)
    return engine
