"""Builds an engine of this machine with everything that runs it: its process, its checkpoints, its supervisor."""

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

#: llama.cpp's servers read their API key from this variable. On a command line every list of processes would show it.
KEY_VARIABLE = "LLAMA_API_KEY"


@dataclass(frozen=True, slots=True)
class SupervisedEngine:
    """An engine and what runs it."""

    engine: Engine
    supervisor: Supervisor
    #: None for an engine that runs already.
    child: ChildProcess | None
    #: The index of its GPU; None if it runs on the CPU.
    gpu: int | None


def build_engine(settings: Settings, family: EngineFamily, gpu: int | None, *, own: bool = True) -> SupervisedEngine:
    """Return the engine of a family that the settings describe, ready to be started by its supervisor.

    ``own``: False to use an engine that runs already. Raises SettingsError.
    """
    placement = gpus.find_placement(settings, family, gpu)
    engine = describe_engine(settings, family, placement, own=own)
    kill_after_s = settings.engine_kill_after_s
    command = engine.command()
    if command is None:
        return SupervisedEngine(engine, Supervisor(engine, None, None, kill_after_s), None, placement.gpu)

    environment = engine_environment()
    if settings.engine_api_key:
        environment[KEY_VARIABLE] = settings.engine_api_key
    environment.update(placement.environment)
    output = settings.home / "log" / f"{family.name}-engine{placement.suffix}.log"
    child = ShimmedProcess(engine.command, output, environment)
    download = BackgroundDownload(settings, family.name)
    return SupervisedEngine(engine, Supervisor(engine, child, download, kill_after_s), child, placement.gpu)


def describe_engine(
    settings: Settings, family: EngineFamily, placement: gpus.Placement | None = None, *, own: bool = True
) -> Engine:
    """Return the engine that the settings describe, without a process or a supervisor. Raises SettingsError.

    ``placement``: where it runs; None for the CPU and the port in the settings.
    """
    gpu = None
    if placement is not None:
        gpu = placement.gpu
        changes: dict[str, Any] = {family.port_setting: placement.port}
        settings = replace(settings, **changes)
    module, _, function = family.engine.partition(":")
    build = getattr(import_module(module), function)
    engine: Engine = build(settings, own=own and family.owns_engine(settings), gpu=gpu)
    return engine
