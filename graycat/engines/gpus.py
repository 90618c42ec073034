"""GPUs: which ones this machine has, which worker pins which, and how they are doing.

What NVML says counts (``nvidia-ml-py``); without its library, or a GPU that it knows, work runs on the CPU.
"""

from __future__ import annotations

import logging
import socket
from dataclasses import dataclass

import pynvml

from graycat.errors import SettingsError
from graycat.families import FAMILIES, EngineFamily
from graycat.settings import Settings, variable

logger = logging.getLogger(__name__)

#: ``LLM_GPUS`` and ``SD_GPUS`` may say so: all that the other does not name.
AUTO = "auto"


@dataclass(frozen=True, slots=True)
class GpuState:
    """How a GPU is doing: utilisation in percent, memory in bytes, temperature in degrees Celsius."""

    utilization: int
    memory_used: int
    memory_total: int
    temperature: int


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one engine runs. ``gpu``: its index, None for the CPU; ``port``: the engine's."""

    gpu: int | None
    port: int

    @property
    def suffix(self) -> str:
        """Return what names of workers and logs end in."""
        return f"-gpu{self.gpu}" if self.gpu is not None else ""

    @property
    def environment(self) -> dict[str, str]:
        """Return what an engine's environment needs for it to see its GPU and no other."""
        if self.gpu is None:
            return {}
        # CUDA's own order is the fastest first; an index here is NVML's, which is the bus's.
        return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": str(self.gpu)}

    def worker_name(self, kind: str, box: str = "") -> str:
        """Return the worker's name in the fleet, and so in Flower; ``box``: what its machine is called."""
        return f"{kind}@{box or socket.gethostname()}{self.suffix}"


def list_gpus() -> tuple[int, ...]:
    """Return the indexes of this machine's GPUs; empty where there is none that NVML knows."""
    try:
        pynvml.nvmlInit()
        try:
            return tuple(range(pynvml.nvmlDeviceGetCount()))
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return ()


def read_gpu_state(gpu: int) -> GpuState | None:
    """Return how a GPU is doing; None where NVML does not tell."""
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
    """Return where the engines of a family run on this machine: one place per GPU, or one on the CPU.

    Raises SettingsError for GPUs that this machine does not have.
    """
    first_port = family.port(settings)
    wanted = family.gpus(settings)
    if not wanted:
        return (Placement(None, first_port),)
    available = list_gpus()
    name = variable(family.gpus_setting)
    pinned = _automatic(available, settings, family) if wanted == AUTO else _parse_indexes(wanted, name)
    missing = sorted(set(pinned) - set(available))
    if missing:
        raise SettingsError(f"{name} names GPU {missing[0]}; this machine has {_list(available)}")
    if not pinned:
        logger.warning("no GPU for an engine, it runs on the CPU", extra={"kind": family.name})
        return (Placement(None, first_port),)
    return tuple(Placement(gpu, first_port + number) for number, gpu in enumerate(pinned))


def find_placement(settings: Settings, family: EngineFamily, gpu: int | None) -> Placement:
    """Return the place of a worker that was given its GPU; None: the family's only place, or the CPU on its first port.

    Raises SettingsError for a GPU that this machine does not have.
    """
    known = list_placements(settings, family)
    if gpu is None:
        return known[0] if len(known) == 1 else Placement(None, known[0].port)
    available = list_gpus()
    if gpu not in available:
        raise SettingsError(f"--gpu {gpu}: this machine has {_list(available)}")
    for place in known:
        if place.gpu == gpu:
            return place
    return Placement(gpu, known[0].port)


def _list(available: tuple[int, ...]) -> str:
    return ", ".join(map(str, available)) or "none"


def _parse_indexes(text: str, name: str) -> tuple[int, ...]:
    try:
        named = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise SettingsError(f"{name} must be GPU indexes parted by commas, 'auto', or empty for the CPU") from None
    if len(set(named)) < len(named):
        raise SettingsError(f"{name} names a GPU twice")
    return named


def _automatic(available: tuple[int, ...], settings: Settings, family: EngineFamily) -> tuple[int, ...]:
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
