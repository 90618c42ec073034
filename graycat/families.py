"""Engine families: the one table of what graycat serves. Every other list of queues, scopes, workers or ports follows.

A family is what one sort of engine makes: ``llm`` makes text, ``sd`` makes images. It may have several kinds of engines
(an embedded one, a start command, one that runs already), which ``engine`` chooses among. ``docs/extending.md`` tells
how to add either.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from graycat.settings import Settings


@dataclass(frozen=True, kw_only=True)
class EngineFamily:
    """A family of engines. Its settings are called ``run_NAME``, ``NAME_port`` and ``NAME_gpus``, others as named here.

    Its queues are ``interactive``, ``batch`` and, if it has calls that need no slot of the engine, ``quick``.
    """

    #: Also its first queue, its kind of worker, the scope of its API tokens, and what its kinds of tasks begin with.
    name: str
    #: What its routes do, for the error of a missing scope.
    purpose: str
    #: What its engines are called.
    engine_title: str

    interactive: str
    batch: str
    quick: str = ""
    #: The kind of worker that takes ``quick`` beside the engine of another worker.
    quick_worker: str = ""
    #: What ``graycat worker --help`` says of its workers.
    worker_help: str
    quick_worker_help: str = ""
    #: Whether a task may be for the engine of one worker alone, because its engines have different checkpoints.
    has_worker_queues: bool = False

    #: What the ids of its tasks begin with. Ids live in the broker and with callers, so a family's digits never change.
    #: Those of hexadecimal numbers are given away: a further family takes letters from ``g`` on.
    id_digits: str
    #: How far behind GRAYCAT_METRICS_PORT the metrics of its workers are served; each kind of worker has 20 ports.
    metrics_offset: int
    quick_metrics_offset: int = 0
    #: The setting that says how many slots its engines have; '' if each has one.
    slots_setting: str = ""
    #: Whether its engines make files, which workers store as artifacts with previews.
    makes_artifacts: bool = False

    #: Settings: the address of an engine that runs already, a start command, and the deadlines of a task.
    url_setting: str
    command_setting: str
    #: The same for engines with another API.
    other_url_settings: tuple[str, ...] = ()
    other_command_settings: tuple[str, ...] = ()
    queue_ttl_setting: str
    exec_timeout_setting: str
    #: Settings that name checkpoints, the engine's own first, and their folders in GRAYCAT_HOME.
    checkpoint_folders: Mapping[str, str] = field(default_factory=dict)

    #: ``MODULE:FUNCTION`` that builds its engine: ``(settings, own=, gpu=)``, see ``graycat.engines.factory``.
    engine: str
    #: Whether the engine that runs without any of those settings is only a stand-in for one with a model.
    has_placeholder: bool = False
    #: The module of its Celery tasks.
    task_module: str

    @property
    def scope(self) -> str:
        """Return the scope that an API token needs for its routes."""
        return self.name

    @property
    def queues(self) -> tuple[str, ...]:
        """Return its queues, the most urgent first."""
        names = (self.interactive, self.quick, self.batch)
        return tuple(name for name in names if name)

    @property
    def worker_kinds(self) -> tuple[str, ...]:
        """Return its kinds of workers, as in their names: ``KIND@BOX``."""
        if self.quick_worker:
            return (self.name, self.quick_worker)
        return (self.name,)

    @property
    def id_pattern(self) -> str:
        """Return the pattern (of Redis) that the ids of its tasks match."""
        return f"[{self.id_digits}]*"

    @property
    def enabled_setting(self) -> str:
        """Return the setting that says whether this server runs its engines."""
        return f"run_{self.name}"

    @property
    def port_setting(self) -> str:
        """Return the setting of its first engine's port; each further GPU's engine listens on the next one."""
        return f"{self.name}_port"

    @property
    def gpus_setting(self) -> str:
        """Return the setting that names its GPUs."""
        return f"{self.name}_gpus"

    def port(self, settings: Settings) -> int:
        """Return the port of its first engine."""
        return int(getattr(settings, self.port_setting))

    def gpus(self, settings: Settings) -> str:
        """Return what the settings say of its GPUs: indexes, ``auto``, or '' for the CPU."""
        return str(getattr(settings, self.gpus_setting)).strip().lower()

    def slots(self, settings: Settings) -> int:
        """Return how many slots the settings give one of its engines."""
        if not self.slots_setting:
            return 1
        return int(getattr(settings, self.slots_setting))

    def worker_bounds(self, settings: Settings) -> tuple[int, int, int]:
        """Return how many workers it may be scaled to: at least, at most, and at most for batch work alone."""
        least: int = getattr(settings, f"{self.name}_min_workers")
        most: int = getattr(settings, f"{self.name}_max_workers")
        for_batches: int = getattr(settings, f"{self.name}_batch_workers")
        return least, most, for_batches

    def is_enabled(self, settings: Settings) -> bool:
        """Return whether ``graycat up`` serves it, and ``/ready`` asks for its workers."""
        return bool(getattr(settings, self.enabled_setting))

    def owns_engine(self, settings: Settings) -> bool:
        """Return whether its workers start their engine; else they adopt one that runs already."""
        return not _any_set(settings, (self.url_setting, *self.other_url_settings))

    def is_placeholder(self, settings: Settings) -> bool:
        """Return whether its engine is only a stand-in for one with a model."""
        if not self.has_placeholder:
            return False
        commands = (self.command_setting, *self.other_command_settings)
        return self.owns_engine(settings) and not _any_set(settings, commands)

    def deadlines(self, settings: Settings, *, quick: bool = False) -> tuple[float, float]:
        """Return the seconds that a task may wait in its queue, and that it may run.

        ``quick``: whether it needs no slot. Such a call takes milliseconds; who waits for longer waits for nobody.
        """
        queue_ttl_s: float = getattr(settings, self.queue_ttl_setting)
        exec_timeout_s: float = getattr(settings, self.exec_timeout_setting)
        if quick:
            return min(queue_ttl_s, settings.quick_timeout_s), min(exec_timeout_s, settings.quick_timeout_s)
        return queue_ttl_s, exec_timeout_s


def _any_set(settings: Settings, names: Iterable[str]) -> bool:
    return any(getattr(settings, name) for name in names)


LLM = EngineFamily(
    name="llm",
    purpose="makes text",
    engine_title="text engine",
    interactive="llm",
    batch="llm.batch",
    quick="llm.quick",
    quick_worker="quick",
    worker_help="Run a worker with a text engine.",
    quick_worker_help="Run a worker for short calls to a text engine.",
    id_digits="01234567",
    metrics_offset=20,
    quick_metrics_offset=40,
    slots_setting="llm_slots",
    url_setting="llama_server_url",
    command_setting="startup_command",
    queue_ttl_setting="queue_ttl_s",
    exec_timeout_setting="exec_timeout_s",
    checkpoint_folders={"model_url": "models/text"},
    engine="graycat.engines.llama:build_text_engine",
    task_module="graycat.tasks.llm",
)
SD = EngineFamily(
    name="sd",
    purpose="makes images",
    engine_title="image engine",
    interactive="sd",
    batch="sd.batch",
    worker_help="Run a worker with an image engine.",
    has_worker_queues=True,
    id_digits="89abcdef",
    metrics_offset=60,
    makes_artifacts=True,
    url_setting="a1111_url",
    command_setting="sd_startup_command",
    other_url_settings=("comfyui_url",),
    other_command_settings=("comfyui_startup_command",),
    queue_ttl_setting="sd_queue_ttl_s",
    exec_timeout_setting="sd_exec_timeout_s",
    # The folders that the WebUIs look into.
    checkpoint_folders={
        "sd_model_url": "models/image/models/Stable-diffusion",
        "lora_url": "models/image/models/Lora",
        "vae_url": "models/image/models/VAE",
    },
    engine="graycat.engines.webui:build_image_engine",
    has_placeholder=True,
    task_module="graycat.tasks.sd",
)
#: All of them. Lists of queues, scopes and commands have the same order.
FAMILIES = (LLM, SD)
BY_NAME = {family.name: family for family in FAMILIES}


def find_by_kind(kind: str) -> EngineFamily | None:
    """Return the family of a kind of task (``llm.completion``) or of a queue (``llm.quick``); None for control work."""
    return BY_NAME.get(kind.partition(".")[0])


def find_by_id(task_id: str) -> EngineFamily:
    """Return the family of the task with an id; one that was not made here may be of the first."""
    for family in FAMILIES:
        if task_id[:1] and task_id[0] in family.id_digits:
            return family
    return FAMILIES[0]


def find_by_queues(queues: Iterable[str]) -> EngineFamily | None:
    """Return the family whose engine a worker of some queues needs; None if it needs no engine.

    A worker owns one engine: of several families the last in the table counts. Batch queues alone need no engine: a
    worker takes them only behind the interactive one.
    """
    taken = set(queues)
    for family in reversed(FAMILIES):
        if family.interactive in taken or (family.quick and family.quick in taken):
            return family
    return None
