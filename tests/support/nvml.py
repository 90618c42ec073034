"""A small NVML, built here: what the real binding loads and calls, with as many GPUs as ``FAKE_GPUS`` says."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

NVML = r"""
#include <stdlib.h>
#include <string.h>
typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned int gpu, memory; } utilization_t;
int nvmlInitWithFlags(unsigned int flags) { return 0; }
int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned int *count) { *count = atoi(getenv("FAKE_GPUS")); return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int i, void **device) { *device = (void *)(size_t)(i + 1); return 0; }
int nvmlDeviceGetMemoryInfo(void *device, memory_t *m) { m->total = 8000; m->used = 3000; m->free = 5000; return 0; }
int nvmlDeviceGetUtilizationRates(void *device, utilization_t *u) { u->gpu = 42; u->memory = 7; return 0; }
int nvmlDeviceGetTemperature(void *device, int sensor, unsigned int *t) { *t = 61; return 0; }
int nvmlDeviceGetTemperatureV(void *device, void *t) { return 3; }
const char *nvmlErrorString(int result) { return "fake"; }
"""


def build(folder: Path) -> dict[str, str]:
    """Build it in a folder; return the environment in which processes find it."""
    (folder / "nvml.c").write_text(NVML)
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler, "a C compiler is needed"
    command = [compiler, "-shared", "-fPIC", "-o", str(folder / "libnvidia-ml.so.1"), str(folder / "nvml.c")]
    subprocess.run(command, check=True)
    return {"LD_LIBRARY_PATH": str(folder)}
