"""What a worker with an engine waits for before it takes tasks, in words for whoever looks at its start."""

from __future__ import annotations

from graycat import families
from graycat.engines.base import State
from graycat.engines.models.checkpoints import main_checkpoint
from graycat.engines.models.packaged import find_smollm2
from graycat.families import LLM, EngineFamily
from graycat.redaction.paths import model_name
from graycat.settings import Settings
from graycat.worker.runtime import EngineRuntime


def describe_wait(runtime: EngineRuntime) -> tuple[str, float | None]:
    """Return what the worker waits for, and how far that is (0 to 1), None if it is not known."""
    family = families.find_by_queues(runtime.queues) or LLM
    subject = family.engine_title
    supervisor = runtime.supervisor
    if supervisor.state is State.READY:
        return f"{subject}: {runtime.idle_reason}", None
    if runtime.child is None:
        return f"{runtime.name.partition('@')[0]}: waiting for the {subject}", None
    download = supervisor.download
    if supervisor.state is State.DOWNLOADING and download is not None and download.percent is not None:
        return f"{subject}: downloading {download.file or 'its model'}", download.percent / 100
    if supervisor.trouble:
        return f"{subject}: {supervisor.trouble}", None
    return f"{subject}: {_describe_loading(runtime.settings, family)}", None


def _describe_loading(settings: Settings, family: EngineFamily) -> str:
    """Return what an engine of this machine does until it is ready."""
    model = main_checkpoint(settings, family.name)
    if model is None and family is LLM and not settings.startup_command:
        model = find_smollm2()
    if model is None:
        return f"starting (its output: graycat logs {family.name})"
    return f"loading {model_name(str(model))}"


def describe_ready(runtime: EngineRuntime) -> str:
    """Return what the worker's engine has, and how many tasks it works on at once."""
    info = runtime.supervisor.info
    models = () if info is None else info.models
    # A router may have hundreds of models, and a WebUI's are files that it has not loaded.
    what = models[0] if len(models) == 1 else runtime.engine.name
    return f"{what}, {runtime.slots} at a time"
