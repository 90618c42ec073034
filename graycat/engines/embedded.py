"""The embedded text engine: llama.cpp's own HTTP server, from the xllamacpp package, in a process of its own.

Run as ``python -m graycat.engines.embedded``. Without ``--model`` it serves the small model that is installed as a
Python package (``models/packaged.py``).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path

import click

from graycat.engines.models.packaged import packaged_model

#: Prompt tokens that are computed between two checks whether the caller is still connected. It is small, so that a
#: disconnect during a long prompt frees the slot soon. On a CPU larger batches gain nothing.
BATCH_TOKENS = 128
#: Niceness of the engine on a CPU that it shares with the processes which deliver its tokens. Its threads spin while
#: they wait for each other. Measured with four streams, in turn: 0.93 of the bare engine's tokens a second came through
#: without this, 0.97 with it.
NICENESS = 10


def lower_priority() -> None:
    """Let all other processes run first.

    The shim has started a session for the engine. If Linux schedules by session (*autogroup*), niceness counts inside a
    session only, so the session's own niceness is set as well.
    """
    os.nice(NICENESS)
    # Only the shim's session is changed, never the session of a user's shell. The file exists on Linux only.
    if os.getsid(0) == os.getppid():
        with contextlib.suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(NICENESS))


def available_cores() -> int:
    """Return how many cores this process may use: a container's CPU set or ``taskset`` may leave it fewer.

    With more threads than cores each step would wait for those that have none. A quota of CPU time (``docker --cpus``)
    does not show here; ``GRAYCAT_LLM_THREADS`` is for that.
    """
    # Not on macOS.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def decoding_threads(cores: int) -> int:
    """Return how many threads decode a single stream; prompts and batches of streams use all cores.

    One core is left to the processes that deliver the tokens, and to the game: if one thread has to wait for its core,
    all other threads wait for it (docs/decisions/0019).
    """
    return max(cores - 1, 1)


@click.command()
@click.option("--host", default="127.0.0.1")
@click.option("--port", type=int, required=True)
@click.option("--api-key", default="", envvar="LLAMA_API_KEY", help="What callers must send as their bearer token.")
@click.option("--slots", type=int, required=True)
@click.option("--context", type=int, required=True, help="Tokens a slot.")
@click.option("--threads", type=int, default=0, help="Cores to compute with; 0: all.")
@click.option("--prompt-cache-mib", type=int, default=512, help="Memory for prompts that slots held before.")
@click.option("--gpu-layers", type=int, default=0)
@click.option("--embeddings", is_flag=True, help="Serve embeddings too; completions get slower.")
@click.option("--models", type=click.Path(path_type=Path), required=True, help="Folder of the packaged model.")
@click.option("--model", type=click.Path(path_type=Path, exists=True), help="A GGUF file to serve instead.")
def main(
    host: str,
    port: int,
    api_key: str,
    slots: int,
    context: int,
    threads: int,
    prompt_cache_mib: int,
    gpu_layers: int,
    embeddings: bool,
    models: Path,
    model: Path | None,
) -> None:
    """Serve a model until a signal comes."""
    import xllamacpp

    lower_priority()
    params = xllamacpp.CommonParams()
    params.model.path = str(model or packaged_model(models))
    params.model_alias = {Path(params.model.path).stem}
    params.hostnames = [host]
    params.port = port
    if api_key:
        params.api_keys = [api_key]
    params.n_parallel = slots
    params.n_ctx = slots * context
    params.n_batch = BATCH_TOKENS
    params.n_ubatch = BATCH_TOKENS
    # llama.cpp itself would fill up to 8 GiB, while the players' prompts change.
    params.cache_ram_mib = prompt_cache_mib
    params.n_gpu_layers = gpu_layers

    cores = available_cores()
    params.cpuparams_batch.n_threads = min(threads or cores, cores)
    params.cpuparams.n_threads = min(threads or cores, decoding_threads(cores))
    # Threads that wait for the next token sleep, because the processes that deliver the last one need their core. A
    # second thread pool whose number is set needs the setting too.
    params.cpuparams.poll = 0
    params.cpuparams_batch.poll = 0

    params.endpoint_slots = True
    params.endpoint_metrics = True
    if embeddings:
        # OpenAI's format of embeddings needs one vector for each text.
        params.embedding = True
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    # llama.cpp's web page must not be reachable through the gateway.
    params.ui = False

    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    click.echo(f"model: loading {params.model.path}")
    server = xllamacpp.Server(params)
    click.echo(f"model: ready at {server.listening_address}")
    sys.stdout.flush()
    signal.pause()


if __name__ == "__main__":
    main()
