"""Groups of settings; ``graycat.settings`` puts them together. ``graycat.settings.rules`` has the rules of a field."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from graycat.settings.aliases import check_aliases
from graycat.settings.rules import (
    MIN_KEY_CHARS,
    addresses,
    base_port,
    choice,
    named_urls,
    not_negative,
    plain,
    positive,
    secret,
    secret_url,
    signed_urls,
    tcp_port,
    up_to,
    url,
)

#: Deeper JSON than this could end what reads or writes it.
MAX_JSON_DEPTH = 200
#: The offsets and GPUs of the workers' metrics ports lie behind the first port, and must be ports as well.
LAST_METRICS_PORT = 65456


@dataclass(frozen=True, kw_only=True)
class TextEngineSettings:
    """The text engine: one that runs already, a start command, a model file, or the embedded default."""

    #: Whether this machine serves text: ``graycat up`` starts its workers, ``/ready`` asks for them.
    run_llm: bool = plain(True, "RUN_LLM")
    #: Port of the first engine; those of further GPUs lie behind it.
    llm_port: int = tcp_port(1337, "LLM_PORT")
    #: Indexes of its GPUs (``0,1``), one engine each; ``auto``; empty for the CPU.
    llm_gpus: str = plain("", "LLM_GPUS")

    llama_server_url: str = plain("", "LLAMA_SERVER_URL")
    startup_command: str = plain("", "STARTUP_COMMAND")
    model_url: str = signed_urls("MODEL_URL")
    #: Layers of a text model that go to its GPU; -1: all if there is a GPU.
    gpu_layers: int = plain(-1, "GPU_LAYERS")
    #: Further names of models, ``ALIAS=MODEL``, parted by commas: for clients that name OpenAI's and cannot be told.
    model_aliases: str = plain("", check=check_aliases)
    #: What becomes of a request for a model that no engine has: ``refuse``, or ``serve`` by the one that all engines
    #: have, if there is but one.
    unknown_model: str = choice("refuse", ("REFUSE", "SERVE"))
    #: The model of requests that name none, if the engine is llama.cpp's router (``llama-server`` without a model);
    #: empty: the first in its list. And the seconds that it may take to load a model that is asked for.
    router_model: str = ""
    router_load_timeout_s: int = positive(300)
    #: Requests that the engine decodes together; a running engine's own count wins.
    llm_slots: int = positive(4)
    #: Whether the embedded engine serves embeddings too; measured, completions are about a tenth slower then.
    llm_embeddings: bool = False
    #: Context of one slot, in tokens.
    llm_context: int = positive(8192)
    #: Cores that the embedded engine computes with, if not on a GPU; 0: all that it may use.
    llm_threads: int = not_negative(0)
    #: Memory (MiB) in which the embedded engine keeps the prompts that slots held before; 0: it keeps none.
    llm_prompt_cache_mib: int = not_negative(512)


@dataclass(frozen=True, kw_only=True)
class ImageEngineSettings:
    """The image engine: one that runs already, a start command, or the placeholder."""

    #: Whether this machine serves images: ``graycat up`` starts its workers, ``/ready`` asks for them.
    run_sd: bool = plain(True, "RUN_SD")
    #: Port of the first engine; those of further GPUs lie behind it.
    sd_port: int = tcp_port(7860, "SD_PORT")
    #: Indexes of its GPUs (``0,1``), one engine each; ``auto``; empty for the CPU.
    sd_gpus: str = plain("", "SD_GPUS")

    #: An engine that runs already: ``http://USER:PASSWORD@HOST:PORT``.
    a1111_url: str = url("A1111_URL")
    sd_startup_command: str = plain("", "SD_STARTUP_COMMAND")
    #: The same for ComfyUI, whose API is another.
    comfyui_url: str = url("COMFYUI_URL")
    comfyui_startup_command: str = plain("", "COMFYUI_STARTUP_COMMAND")
    #: A folder of workflows in API format, which become kinds of tasks: ``sd.workflow/NAME``. Empty: none.
    comfyui_workflows: str = ""
    #: Whether images lose the workflow that ComfyUI writes into them: who gets such a file has the workflow.
    comfyui_strip_workflow: bool = False
    #: Checkpoints, downloaded as ``model_url`` is; each setting may name several.
    sd_model_url: str = signed_urls("SD_MODEL_URL")
    lora_url: str = signed_urls("LORA_URL")
    vae_url: str = signed_urls("VAE_URL")
    #: An image may wait this many seconds in its queue, and take this many to render.
    sd_queue_ttl_s: float = positive(600.0)
    sd_exec_timeout_s: float = positive(900.0)


@dataclass(frozen=True, kw_only=True)
class EngineSettings(TextEngineSettings, ImageEngineSettings):
    """What engines of every family share, with the settings of each family."""

    #: The key that engines ask of their callers. Empty: none, as only this machine reaches them.
    engine_api_key: str = secret(min_chars=MIN_KEY_CHARS)

    #: An engine that has sent nothing for this many seconds, neither an answer nor a byte of any call, is started anew.
    engine_kill_after_s: float = positive(60.0)

    #: Whether checkpoints may be pickled (.ckpt .pt .pth .bin): the author of such a file can run code on this machine.
    allow_pickle: bool = False
    # Hugging Face's own names.
    hf_token: str = secret("HF_TOKEN")
    hf_endpoint: str = plain("", "HF_ENDPOINT")
    hf_hub_offline: bool = plain(False, "HF_HUB_OFFLINE")


@dataclass(frozen=True, kw_only=True)
class MonitoringSettings:
    """Monitoring: metrics, traces, Flower, the Celery exporter."""

    #: Port of the control worker's metrics; those of the others lie behind it (``graycat.metrics.server``). 0: no
    #: worker serves any.
    metrics_port: int = base_port(LAST_METRICS_PORT)
    #: The address on which workers serve them; an address of another machine's reach needs a token.
    metrics_host: str = "127.0.0.1"
    #: The bearer token that a scraper sends to web and workers; web also accepts API tokens with the scope ``metrics``.
    metrics_token: str = secret(min_chars=MIN_KEY_CHARS)
    #: What each API token has used is kept for this many days.
    usage_days: int = up_to(3660, 92)

    #: The collector of traces, OTLP over HTTP (``http://collector:4318``); needs ``graycat[tracing]``. Empty: none.
    traces_url: str = url()

    #: Whether ``graycat up`` runs Flower, and its address. Without a password one is generated and stored in ``home``.
    flower: bool = True
    flower_host: str = "127.0.0.1"
    flower_password: str = secret(min_chars=MIN_KEY_CHARS)

    #: Whether ``graycat up`` runs the Celery exporter, and the Python of the environment that it is installed in.
    exporter: bool = False
    exporter_python: Path = Path(".venv-exporter/bin/python")


@dataclass(frozen=True, kw_only=True)
class TextLimitSettings:
    """What one text request may ask of an engine; docs/decisions/0024-bounds.md has where the defaults come from."""

    #: The JSON of any request may have this many levels of objects and arrays.
    max_json_depth: int = up_to(MAX_JSON_DEPTH, 100)
    #: Messages, parts of a message, prompts, inputs or documents of one request.
    max_items: int = positive(4096)
    #: Answers of one request: its prompts, times the answers to each.
    max_answers: int = positive(256)
    #: Probabilities that one token may be sent with.
    max_probs: int = positive(128)
    #: Words that end an answer, or in other lists of words, and the characters of each.
    max_words: int = positive(128)
    max_word_chars: int = positive(1000)
    #: Tokens with a bias.
    max_logit_bias: int = positive(10_000)
    #: Samplers, one after the other.
    max_samplers: int = positive(32)
    #: Tools that a model may call.
    max_tools: int = positive(256)
    #: A grammar may have this many bytes and rules, and each of its groups, enums or unions this many alternatives.
    max_grammar_bytes: int = positive(128 * 1024)
    max_grammar_rules: int = positive(4000)
    max_grammar_alternatives: int = positive(1000)
    #: Anything in a grammar or schema may be repeated this many times, counting repetitions inside each other.
    max_repetition: int = positive(100_000)
    #: Elements of all grammars of a request, when their repetitions are spelled out.
    max_grammar_size: int = positive(1_000_000)
    #: A JSON schema, or the schemas of all tools together, may have this many bytes; all together this many values,
    #: and each object this many properties.
    max_schema_bytes: int = positive(1024 * 1024)
    max_schema_nodes: int = positive(50_000)
    max_schema_properties: int = positive(500)


@dataclass(frozen=True, kw_only=True)
class LimitSettings(TextLimitSettings):
    """What one request may ask for, and how long tasks and their results live."""

    #: A request body may have this many bytes.
    max_body_bytes: int = positive(4 * 1024 * 1024)
    #: The body of a request for images, with those that it sends, may have this many bytes.
    max_image_body_bytes: int = positive(64 * 1024 * 1024)
    #: The text of one request (prompt, messages, content, input) may have this many characters.
    max_prompt_chars: int = positive(400_000)
    #: The images that one request asks for may have this many pixels together, each at its largest: four of
    #: 2048 x 2048, sixteen of 1024 x 1024.
    max_pixels: int = positive(4 * 2048 * 2048)
    #: No side of an image, sent or asked for, may be longer than this many pixels.
    max_side: int = positive(8192)
    #: One request may ask for this many images, and send as many.
    max_images: int = positive(16)
    #: Sampling steps of one pass.
    max_steps: int = positive(150)
    #: An image in a request may have this many bytes, before base64, and this many pixels.
    max_image_bytes: int = positive(16 * 1024 * 1024)
    max_image_pixels: int = positive(4096 * 4096)
    #: Settings of an image engine that a request may override for itself, parted by commas.
    sd_override_settings: str = (
        "sd_model_checkpoint,sd_vae,forge_additional_modules,"
        "CLIP_stop_at_last_layers,samples_format,eta_noise_seed_delta"
    )
    #: Titles of an image engine's scripts that a request may name, parted by commas. What a script does with its
    #: arguments is the script's own affair: list none that opens files for its caller.
    sd_scripts: str = ""
    #: Fields of an image engine that graycat's own routes and specs of batches may name beside those that graycat
    #: knows, parted by commas.
    sd_fields: str = ""
    #: The inputs of the tasks and batches of one player, of one API token with its players, and of all callers may take
    #: this many bytes in the broker together; 0: any number.
    stored_bytes_per_player: int = not_negative(128 * 1024 * 1024)
    stored_bytes_per_token: int = not_negative(256 * 1024 * 1024)
    stored_bytes: int = not_negative(1024 * 1024 * 1024)
    #: A queue that holds this many tasks takes no more.
    queue_cap: int = positive(1000)
    #: Names of API tokens that may change the engines' state, parted by commas.
    admins: str = ""
    #: What becomes of the streams and tasks of an API token that is revoked or expires: ``cancel`` or ``finish``.
    revoked_tasks: str = choice("cancel", ("CANCEL", "FINISH"))
    #: A task that has not started after this many seconds is expired; the engine never sees it.
    queue_ttl_s: float = positive(60.0)
    #: A task that runs longer than this many seconds is stopped.
    exec_timeout_s: float = positive(600.0)
    #: A call that needs no slot (``/tokenize``) waits and runs for this many seconds at most, each.
    quick_timeout_s: float = positive(10.0)
    #: How often a task is tried before it counts as lost.
    max_attempts: int = positive(3)
    #: A finished task's record and answer are kept this many seconds, its events ``events_ttl_s``.
    record_ttl_s: float = positive(3600.0)
    events_ttl_s: float = positive(300.0)
    #: A task that has not succeeded keeps its input for a retry if that has at most this many bytes; 0: never.
    retry_body_bytes: int = not_negative(64 * 1024)
    #: The store of finished images: empty for the broker, or an fsspec address (``file:///srv/images``,
    #: ``s3://bucket/prefix``).
    artifacts_url: str = secret_url()
    #: A finished image is kept this many seconds after it was stored.
    artifact_ttl_s: float = positive(3600.0)
    #: The key from which each API token's webhook secret is derived. Empty: one is generated and stored in ``home``.
    webhook_key: str = secret(min_chars=MIN_KEY_CHARS)
    #: Receivers of webhooks beside the public ones over https, parted by commas: ``host``, ``host:port``,
    #: ``10.0.0.0/8``.
    webhook_allow: str = ""
    #: A worker that has not renewed a task's lease for this many seconds counts as dead.
    lease_s: float = positive(6.0)


@dataclass(frozen=True, kw_only=True)
class FrontSettings:
    """What one web process takes from the connections of strangers; docs/front.md."""

    #: Connections that are open at a time: in all, and from one address.
    max_connections: int = positive(4000)
    max_connections_per_address: int = positive(500)
    #: Of these, connections whose request has not come as far as the end of its head.
    max_half_open: int = positive(1000)
    max_half_open_per_address: int = positive(100)
    #: Addresses and networks, parted by commas, whose connections are those of many clients: proxies.
    trusted_addresses: str = addresses("127.0.0.1,::1")
    #: A request's head must be there after this many seconds.
    head_timeout_s: float = positive(10.0)
    #: A body may fall behind ``body_min_rate`` (bytes a second) by this many seconds, and pause no longer.
    body_timeout_s: float = positive(20.0)
    body_min_rate: int = positive(1000)
    #: A client that takes nothing of its answer for this many seconds is disconnected.
    write_timeout_s: float = positive(30.0)
    #: A connection without a request is kept open this many seconds.
    idle_timeout_s: float = positive(30.0)
    #: The bodies of all unfinished requests together may have this many bytes.
    max_bodies_bytes: int = positive(512 * 1024 * 1024)


@dataclass(frozen=True, kw_only=True)
class ScaleSettings:
    """How many workers ``graycat scale-hint`` asks for; docs/scaling.md."""

    #: Workers of a family: at least (0: none while nothing is to be done), at most, and at most for batch work alone.
    llm_min_workers: int = not_negative(1)
    llm_max_workers: int = positive(8)
    llm_batch_workers: int = not_negative(1)
    sd_min_workers: int = not_negative(1)
    sd_max_workers: int = positive(8)
    sd_batch_workers: int = not_negative(1)
    #: A task that waits should begin within this many seconds, and all batch work be done within so many.
    scale_wait_s: float = positive(30.0)
    scale_batch_s: float = positive(3600.0)
    #: Seconds from the order of a worker to its first task: the machine, the image, the model.
    scale_start_s: float = positive(60.0)
    #: A family loses workers when it has needed fewer for this many seconds.
    scale_down_s: float = positive(600.0)


@dataclass(frozen=True, kw_only=True)
class ScheduleSettings:
    """Schedules: batches by the clock."""

    #: Seconds between two checks of which schedules are due.
    schedule_tick_s: float = positive(5.0)
    #: The operator's file of schedules; if it does not exist, schedules are made over REST only.
    schedules_file: Path = Path("schedules.toml")


@dataclass(frozen=True, kw_only=True)
class BatchSettings:
    """Batches of images."""

    #: The output of batches: a folder, or an fsspec address (``s3://bucket/prefix``); empty: ``batches`` in ``home``.
    batch_dir: str = url()
    #: More places that a batch may name, parted by commas: ``name=address``.
    batch_stores: str = named_urls()
    #: A batch may have this many images.
    batch_max_items: int = positive(10_000)
    #: One API token may have this many batches that are not over.
    batch_max_live: int = positive(100)
    #: The record of a batch is kept this many seconds after its end; its files stay.
    batch_ttl_s: float = positive(30 * 24 * 3600.0)
