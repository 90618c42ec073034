"""GPUs: which ones this machine has, which worker uses which, and their current load.

NVML (package ``nvidia-ml-py``) lists them. Without its library, or without a GPU that it knows, engines run on the CPU.
"""

from __future__ import annotations

import logging
import socket
from dataclasses import dataclass

from graycat.errors import SettingsError
from graycat.families import FAMILIES, EngineFamily
from graycat.settings import Settings, variable

logger = logging.getLogger(__name__)

#: A value of ``LLM_GPUS`` and ``SD_GPUS``: all GPUs that the other setting does not name.
AUTO = "auto"


@dataclass(frozen=True, slots=True)
class GpuState:
    """The load of a GPU: utilisation in percent, memory in bytes, temperature in degrees Celsius."""

    utilization: int
    memory_used: int
    memory_total: int
    temperature: int


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one engine runs."""

    #: The index of its GPU; None for the CPU.
    gpu: int | None
    #: The engine's port.
    port: int

    @property
    def suffix(self) -> str:
        """Return the suffix of the worker's and the log's name; '' on the CPU."""
        if self.gpu is None:
            return ""
        return f"-gpu{self.gpu}"

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment variables with which an engine sees its GPU and no other."""
        if self.gpu is None:
            return {}
        # NVML numbers GPUs in the order of the PCI bus. CUDA's own order would be the fastest GPU first.
        return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": str(self.gpu)}

    def worker_name(self, kind: str, box: str = "") -> str:
        """Return the worker's name in the fleet and in Flower. ``box``: the node's name; '' for its host name."""
        return f"{kind}@{box or socket.gethostname()}{self.suffix}"


def list_gpus() -> tuple[int, ...]:
    """Return the indexes of this machine's GPUs; empty if NVML finds none."""
    # Imported where it is used: it takes 20 ms, and most processes never ask.
    import pynvml

    try:
        pynvml.nvmlInit()
        try:
            return tuple(range(pynvml.nvmlDeviceGetCount()))
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return ()


def read_gpu_state(gpu: int) -> GpuState | None:
    """Return the load of a GPU; None if NVML cannot read it."""
    import pynvml

    try:
        pynvml.nvmlInit()
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(gpu)
            memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
            return GpuState(
                utilization=int(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu),
                memory_used=int(memory.used),
                memory_total=int(memory.total),
                temperature=int(pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)),
            )
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return None


def list_placements(settings: Settings, family: EngineFamily) -> tuple[Placement, ...]:
    """Return where the engines of a family run on this machine: one placement per GPU, or one on the CPU.

    Raises SettingsError for GPUs that this machine does not have.
    """
    first_port = family.port(settings)
    setting = family.gpus(settings)
    if not setting:
        return (Placement(None, first_port),)
    available = list_gpus()
    name = variable(family.gpus_setting)
    if setting == AUTO:
        chosen = _choose_automatically(available, settings, family)
    else:
        chosen = _parse_indexes(setting, name)
    missing = sorted(set(chosen) - set(available))
    if missing:
        raise SettingsError(f"{name} names GPU {missing[0]}; this machine has {_format_indexes(available)}")
    if not chosen:
        logger.warning("no GPU for an engine, it runs on the CPU", extra={"kind": family.name})
        return (Placement(None, first_port),)
    return tuple(Placement(gpu, first_port + number) for number, gpu in enumerate(chosen))


def find_placement(settings: Settings, family: EngineFamily, gpu: int | None) -> Placement:
    """Return the placement of a worker's engine on a GPU.

    ``gpu``: None for the family's only placement, or if there are several, for the CPU and the first port.
    Raises SettingsError for a GPU that this machine does not have.
    """
    placements = list_placements(settings, family)
    first_port = placements[0].port
    if gpu is None:
        if len(placements) == 1:
            return placements[0]
        return Placement(None, first_port)
    available = list_gpus()
    if gpu not in available:
        raise SettingsError(f"--gpu {gpu}: this machine has {_format_indexes(available)}")
    for placement in placements:
        if placement.gpu == gpu:
            return placement
    return Placement(gpu, first_port)


def _format_indexes(indexes: tuple[int, ...]) -> str:
    return ", ".join(map(str, indexes)) or "none"


def _parse_indexes(text: str, name: str) -> tuple[int, ...]:
    """Return the GPUs in the value of the setting ``name``. Raises SettingsError."""
    try:
        indexes = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise SettingsError(f"{name} must be GPU indexes separated by commas, 'auto', or empty for the CPU") from None
    if len(set(indexes)) < len(indexes):
        raise SettingsError(f"{name} names a GPU twice")
    return indexes


def _choose_automatically(available: tuple[int, ...], settings: Settings, family: EngineFamily) -> tuple[int, ...]:
    """Return the GPUs of a family whose setting is ``auto``: those that no other family's setting names.

    Of several automatic families the first in the table gets most, each further one the last that is left. If there
    are fewer GPUs than families, they share them.
    """
    automatic = []
    taken: set[int] = set()
    for other in FAMILIES:
        text = other.gpus(settings)
        if text == AUTO:
            automatic.append(other)
        elif text:
            taken.update(_parse_indexes(text, variable(other.gpus_setting)))
    free = tuple(gpu for gpu in available if gpu not in taken)
    if len(free) < len(automatic):
        return free
    first_share = len(free) - len(automatic) + 1
    position = automatic.index(family)
    if position == 0:
        return free[:first_share]
    return (free[first_share + position - 1],)
