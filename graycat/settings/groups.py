"""Groups of settings; ``graycat.settings`` puts them together.

``name`` in a field's metadata is its variable; without one that is GRAYCAT_ and the field in capitals.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """Engines: where they run, how they start, and their checkpoints."""

    #: GPU indexes of the text and of the image engines (``0,1``), one engine each; ``auto``; empty for the CPU.
    llm_gpus: str = field(default="", metadata={"name": "LLM_GPUS"})
    sd_gpus: str = field(default="", metadata={"name": "SD_GPUS"})

    #: What the engines want of whoever calls them. Empty: nothing, as nobody but this machine reaches them.
    engine_api_key: str = field(default="", repr=False)

    # The image engine: one that runs already (``http://USER:PASSWORD@HOST:PORT``), a command, or the placeholder.
    a1111_url: str = field(default="", repr=False, metadata={"name": "A1111_URL"})
    sd_startup_command: str = field(default="", metadata={"name": "SD_STARTUP_COMMAND"})
    #: An image may wait this many seconds in its queue, and take this many to render.
    sd_queue_ttl_s: float = 600.0
    sd_exec_timeout_s: float = 900.0

    # The text engine: one that runs already, a command, a model file, or the embedded default.
    llama_server_url: str = field(default="", metadata={"name": "LLAMA_SERVER_URL"})
    startup_command: str = field(default="", metadata={"name": "STARTUP_COMMAND"})
    model_url: str = field(default="", repr=False, metadata={"name": "MODEL_URL"})
    #: Layers of a text model that go to its GPU; -1: all where there is one.
    gpu_layers: int = field(default=-1, metadata={"name": "GPU_LAYERS"})
    #: Requests that the engine decodes together; a running engine's own count wins.
    llm_slots: int = 4
    #: Whether the embedded engine serves embeddings too; measured, completions are about a tenth slower then.
    llm_embeddings: bool = False
    #: Context of one slot, in tokens.
    llm_context: int = 8192

    # Checkpoints of the image engine, downloaded as ``model_url`` is; each may name several.
    sd_model_url: str = field(default="", repr=False, metadata={"name": "SD_MODEL_URL"})
    lora_url: str = field(default="", repr=False, metadata={"name": "LORA_URL"})
    vae_url: str = field(default="", repr=False, metadata={"name": "VAE_URL"})
    #: Whether checkpoints may be pickled (.ckpt .pt .pth .bin): who made such a file can run code on this machine.
    allow_pickle: bool = False
    # Hugging Face's own names.
    hf_token: str = field(default="", repr=False, metadata={"name": "HF_TOKEN"})
    hf_endpoint: str = field(default="", metadata={"name": "HF_ENDPOINT"})
    hf_hub_offline: bool = field(default=False, metadata={"name": "HF_HUB_OFFLINE"})


@dataclass(frozen=True, kw_only=True)
class MonitoringSettings:
    """What shows how graycat is doing: metrics, Flower, the Celery exporter."""

    #: Port of the control worker's metrics; those of the others lie behind it (``graycat.metrics.server``). 0: no
    #: worker serves any.
    metrics_port: int = 0
    #: Where workers serve them; beyond this machine only with a token.
    metrics_host: str = "127.0.0.1"
    #: What a scraper sends to web and workers as its bearer token; web takes API tokens with the scope too.
    metrics_token: str = field(default="", repr=False)
    #: Where traces go by OTLP over HTTP (``http://collector:4318``); needs ``graycat[tracing]``. Empty: nowhere.
    traces_url: str = field(default="", repr=False)

    #: Whether ``graycat up`` runs Flower, and where that listens. Without a password one is made and kept in ``home``.
    flower: bool = True
    flower_host: str = "127.0.0.1"
    flower_password: str = field(default="", repr=False)

    #: Whether ``graycat up`` runs the Celery exporter, and the Python of the environment that it is installed in.
    exporter: bool = False
    exporter_python: Path = Path(".venv-exporter/bin/python")


@dataclass(frozen=True, kw_only=True)
class LimitSettings:
    """What one request may ask for, and how long tasks and what they leave behind live."""

    #: A request body may have this many bytes.
    max_body_bytes: int = 4 * 1024 * 1024
    #: The body of a request for images, with those that it sends, may have this many bytes.
    max_image_body_bytes: int = 64 * 1024 * 1024
    #: The text of one request (prompt, messages, content, input) may have this many characters.
    max_prompt_chars: int = 400_000
    #: The images that one request asks for may have this many pixels together, each at its largest: four of
    #: 2048 x 2048, sixteen of 1024 x 1024.
    max_pixels: int = 4 * 2048 * 2048
    #: No side of an image, sent or asked for, may be longer than this many pixels.
    max_side: int = 8192
    #: One request may ask for this many images, and send as many.
    max_images: int = 16
    #: Sampling steps of one pass.
    max_steps: int = 150
    #: An image in a request may have this many bytes, before base64, and this many pixels.
    max_image_bytes: int = 16 * 1024 * 1024
    max_image_pixels: int = 4096 * 4096
    #: Settings of an image engine that a request may override for itself, parted by commas.
    sd_override_settings: str = (
        "sd_model_checkpoint,sd_vae,CLIP_stop_at_last_layers,samples_format,eta_noise_seed_delta"
    )
    #: Titles of an image engine's scripts that a request may name, parted by commas. What a script does with its
    #: arguments is the script's own affair: list none that opens files for its caller.
    sd_scripts: str = ""
    #: A queue that holds this many tasks takes no more.
    queue_cap: int = 1000
    #: Names of API tokens that may change the engines' state, parted by commas.
    admins: str = ""
    #: A task that has not started after this many seconds is expired; the engine never sees it.
    queue_ttl_s: float = 60.0
    #: A task that runs longer than this many seconds is stopped.
    exec_timeout_s: float = 600.0
    #: How often a task is tried before it counts as lost.
    max_attempts: int = 3
    #: A finished task's record and answer are kept this many seconds, its events ``events_ttl_s``.
    record_ttl_s: float = 3600.0
    events_ttl_s: float = 300.0
    #: Where finished images lie: empty for the broker, or an fsspec address (``file:///srv/images``,
    #: ``s3://bucket/prefix``).
    artifacts_url: str = field(default="", repr=False)
    #: A finished image is kept this many seconds after it was stored.
    artifact_ttl_s: float = 3600.0
    #: What each API token's webhook secret is made from. Empty: one is made and kept in ``home``.
    webhook_key: str = field(default="", repr=False)
    #: Receivers of webhooks beside the public ones over https, parted by commas: ``host``, ``host:port``,
    #: ``10.0.0.0/8``.
    webhook_allow: str = ""
    #: A worker that has not renewed a task's lease for this many seconds is taken for dead.
    lease_s: float = 6.0


@dataclass(frozen=True, kw_only=True)
class ScheduleSettings:
    """Schedules: batches by the clock."""

    #: Seconds between two looks at what is due.
    schedule_tick_s: float = 5.0
    #: The file of the schedules that its operator writes; where there is none, schedules come by REST alone.
    schedules_file: Path = Path("schedules.toml")


@dataclass(frozen=True, kw_only=True)
class BatchSettings:
    """Batches of images."""

    #: Where batches write: a folder, or an fsspec address (``s3://bucket/prefix``); empty: ``batches`` in ``home``.
    batch_dir: str = field(default="", repr=False)
    #: More places that a batch may name, parted by commas: ``name=address``.
    batch_stores: str = field(default="", repr=False)
    #: A batch may have this many images.
    batch_max_items: int = 10_000
    #: One API token may have this many batches that are not over.
    batch_max_live: int = 100
    #: What is known of a batch is kept this many seconds after its end; its files stay.
    batch_ttl_s: float = 30 * 24 * 3600.0
