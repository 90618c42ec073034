"""GPUs: which ones this machine has, which worker pins which, and how they are doing.

What NVML says counts (``nvidia-ml-py``); without its library, or a GPU that it knows, work runs on the CPU.
"""

from __future__ import annotations

import logging
import socket
from dataclasses import dataclass

import pynvml

from graycat.errors import SettingsError
from graycat.settings import Settings

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


def list_placements(settings: Settings, kind: str) -> tuple[Placement, ...]:
    """Return where the engines of a kind (``llm`` or ``sd``) run on this machine: one place a GPU, or the CPU.

    Raises SettingsError for GPUs that are not there.
    """
    text, images = settings.llm_gpus.strip().lower(), settings.sd_gpus.strip().lower()
    mine, other, name = (text, images, "LLM_GPUS") if kind == "llm" else (images, text, "SD_GPUS")
    first_port = settings.llm_port if kind == "llm" else settings.sd_port
    if not mine:
        return (Placement(None, first_port),)
    there = list_gpus()
    pinned = _automatic(there, kind, other) if mine == AUTO else _named(mine, name)
    if missing := sorted(set(pinned) - set(there)):
        found = ", ".join(map(str, there)) or "none"
        raise SettingsError(f"{name} names GPU {missing[0]}; this machine has {found}")
    if not pinned:
        logger.warning("no GPU for an engine, it runs on the CPU", extra={"kind": kind})
        return (Placement(None, first_port),)
    return tuple(Placement(gpu, first_port + place) for place, gpu in enumerate(pinned))


def find_placement(settings: Settings, kind: str, gpu: int | None) -> Placement:
    """Return the place of a worker that was told its GPU; None: the kind's only one, or its first."""
    known = list_placements(settings, kind)
    if gpu is None:
        return known[0] if len(known) == 1 else Placement(None, known[0].port)
    if gpu not in list_gpus():
        raise SettingsError(f"--gpu {gpu}: this machine has {', '.join(map(str, list_gpus())) or 'none'}")
    return next((place for place in known if place.gpu == gpu), Placement(gpu, known[0].port))


def _named(text: str, name: str) -> tuple[int, ...]:
    try:
        named = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise SettingsError(f"{name} must be GPU indexes parted by commas, 'auto', or empty for the CPU") from None
    if len(set(named)) < len(named):
        raise SettingsError(f"{name} names a GPU twice")
    return named


def _automatic(there: tuple[int, ...], kind: str, other: str) -> tuple[int, ...]:
    """Return the GPUs that the other kind does not name. Where both are automatic, images get the last of several."""
    if other != AUTO:
        taken = set(_named(other, "SD_GPUS" if kind == "llm" else "LLM_GPUS")) if other else set()
        return tuple(gpu for gpu in there if gpu not in taken)
    if len(there) < 2:
        return there
    return there[:-1] if kind == "llm" else there[-1:]
