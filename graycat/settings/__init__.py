"""Settings: read from the environment once, into one frozen object; the only reader of ``os.environ``."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_type_hints
from urllib.parse import quote, unquote, urlsplit

import honcho.environ

from graycat.errors import SettingsError
from graycat.settings import broker
from graycat.settings.groups import BatchSettings, EngineSettings, LimitSettings, MonitoringSettings, ScheduleSettings

#: Who guesses the key makes API tokens at will, and may try at home.
MIN_TOKEN_KEY_CHARS = 32
#: Fields that mean nothing at zero or below.
POSITIVE = (
    *("sd_queue_ttl_s", "sd_exec_timeout_s", "lease_s", "queue_ttl_s", "exec_timeout_s", "keepalive_s", "stop_grace_s"),
    *("record_ttl_s", "events_ttl_s", "artifact_ttl_s", "max_image_body_bytes"),
    *("max_body_bytes", "max_prompt_chars", "llm_slots", "llm_context", "queue_cap", "max_attempts", "web_workers"),
    *("max_pixels", "max_side", "max_images", "max_steps", "max_image_bytes", "max_image_pixels"),
    *("batch_max_items", "batch_max_live", "batch_ttl_s"),
    "schedule_tick_s",
)
PORTS = ("port", "llm_port", "sd_port", "flower_port", "exporter_port")
#: A shorter key of the webhooks' secrets, or of the engines, can be guessed.
MIN_KEY_CHARS = 16
#: Behind the first port of the workers' metrics come those of the others.
LAST_METRICS_PORT = 65456
LOOPBACK = ("127.0.0.1", "localhost", "::1")
#: What tracing needs; looked for, not imported.
TRACING = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


@dataclass(frozen=True, kw_only=True)
class Settings(EngineSettings, LimitSettings, MonitoringSettings, BatchSettings, ScheduleSettings):
    """What an operator can set; each group of settings is a class of ``graycat.settings.groups``."""

    #: ``name:secret`` pairs or bare secrets, parted by commas. Empty: one is made and kept in ``home``.
    api_tokens: str = field(default="", repr=False, metadata={"name": "API_TOKENS"})

    #: What minted API tokens are hashed and players' are signed with; the same for every web process and the command
    #: line. Empty: one is made and kept in ``home``.
    token_key: str = field(default="", repr=False)

    #: State of this copy: broker data, models, API token, engine logs.
    home: Path = Path("var")

    #: True: only workers run here, and dial out to a broker elsewhere. False: only engines, open to whoever has their
    #: key. None: everything on this machine.
    remote: bool | None = field(default=None, metadata={"name": "REMOTE"})
    #: What this machine is called in the fleet; empty: as it calls itself.
    box: str = ""

    # Broker. Without any of these three it is the embedded Valkey, on a Unix socket in ``home``.
    redis_url: str = field(default="", repr=False, metadata={"name": "REDIS_URL"})
    redis_host: str = field(default="", metadata={"name": "REDIS_HOST"})
    redis_pass: str = field(default="", repr=False, metadata={"name": "REDIS_PASS"})
    #: Who signed the certificate of a ``rediss://`` broker (PEM); empty: those that this machine trusts.
    redis_ca_file: str = ""

    # Addresses.
    host: str = field(default="127.0.0.1", metadata={"name": "HOST"})
    port: int = field(default=8000, metadata={"name": "PORT"})
    llm_port: int = field(default=1337, metadata={"name": "LLM_PORT"})
    sd_port: int = field(default=7860, metadata={"name": "SD_PORT"})
    flower_port: int = field(default=5555, metadata={"name": "FLOWER_PORT"})
    exporter_port: int = field(default=9808, metadata={"name": "EXPORTER_PORT"})

    #: Which engines ``graycat up`` serves on this machine.
    run_llm: bool = field(default=True, metadata={"name": "RUN_LLM"})
    run_sd: bool = field(default=True, metadata={"name": "RUN_SD"})

    #: A stream whose task gave no event for this long is committed to status 200 and kept alive.
    keepalive_s: float = 5.0
    #: Processes ``graycat web`` runs; each serves thousands of streams.
    web_workers: int = 1
    #: Seconds that running work gets to finish when everything is told to stop.
    stop_grace_s: float = 10.0
    log_level: str = "INFO"

    def __post_init__(self) -> None:
        for name in POSITIVE:
            if not 0 < getattr(self, name) < math.inf:
                raise SettingsError(f"{variable(name)} must be a number above zero")
        if self.log_level.upper() not in LOG_LEVELS:
            raise SettingsError(f"{variable('log_level')} must be one of {', '.join(LOG_LEVELS)}")
        for name in ("webhook_key", "engine_api_key", "metrics_token", "flower_password"):
            if 0 < len(getattr(self, name)) < MIN_KEY_CHARS:
                raise SettingsError(f"{variable(name)} has fewer than {MIN_KEY_CHARS} characters")
        self._check_mode()
        self._check_monitoring()
        if 0 < len(self.token_key) < MIN_TOKEN_KEY_CHARS:
            raise SettingsError(f"{variable('token_key')} must have {MIN_TOKEN_KEY_CHARS} characters at least")
        ports: dict[int, str] = {}
        for name in PORTS:
            if not 0 < getattr(self, name) < 65536:
                raise SettingsError(f"{variable(name)} must be a port, 1 to 65535")
            if (other := ports.setdefault(getattr(self, name), name)) != name:
                raise SettingsError(f"{variable(name)} and {variable(other)} are the same port")

    def _check_monitoring(self) -> None:
        if not 0 <= self.metrics_port < LAST_METRICS_PORT:
            raise SettingsError(f"{variable('metrics_port')} must be a port below {LAST_METRICS_PORT}, or 0 for none")
        if self.metrics_port and not self.metrics_token and self.metrics_host not in LOOPBACK:
            raise SettingsError(f"{variable('metrics_host')} opens metrics to others: set {variable('metrics_token')}")
        if self.traces_url and urlsplit(self.traces_url).scheme not in ("http", "https"):
            raise SettingsError(f"{variable('traces_url')} must begin with http:// or https://")
        if self.traces_url and not _installed(*TRACING):
            raise SettingsError(f"{variable('traces_url')} needs more packages: pip install 'graycat[tracing]'")

    def _check_mode(self) -> None:
        if self.remote and self.embedded_broker:
            raise SettingsError("REMOTE=true needs REDIS_URL or REDIS_HOST: the broker that the workers here work for")
        if self.remote is False and not self.engine_api_key:
            raise SettingsError(f"REMOTE=false opens the engines to everybody: set {variable('engine_api_key')}")
        if self.redis_ca_file and not broker.over_tls(self.redis_url):
            raise SettingsError(f"{variable('redis_ca_file')} is for a REDIS_URL that begins with rediss://")
        if self.redis_ca_file and not os.access(self.redis_ca_file, os.R_OK):
            raise SettingsError(f"{variable('redis_ca_file')}: {self.redis_ca_file} cannot be read")

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Settings:
        """Read every field that ``env`` sets.

        ``env`` defaults to the process's environment over what a ``.env`` file in the working directory says.
        Raises SettingsError naming the variable for a value that cannot be cast.
        """
        env = environment() if env is None else env
        kinds = get_type_hints(cls)
        return cls(**{f.name: cast(env, f.name, kinds[f.name]) for f in fields(cls) if env.get(variable(f.name))})

    @property
    def broker_socket(self) -> Path:
        """Return where the embedded Valkey listens."""
        return broker.embedded_socket(self.home)

    @property
    def embedded_broker(self) -> bool:
        """Tell whether this copy brings its own broker."""
        return not (self.redis_url or self.redis_host)

    @property
    def broker_url(self) -> str:
        """Return the broker's address as redis-py writes it (``unix://``, ``redis://`` or ``rediss://``)."""
        if self.redis_url:
            return broker.verified(self.redis_url, self.redis_ca_file)
        if self.redis_host:
            return broker.on_host(self.redis_host, self.redis_pass)
        return f"unix://{quote(str(self.broker_socket))}"

    @property
    def engine_host(self) -> str:
        """Return the address on which the engines of this machine listen."""
        return "0.0.0.0" if self.remote is False else "127.0.0.1"  # noqa: S104 (with a key, or not at all)

    @property
    def owns_llm_engine(self) -> bool:
        """Tell whether the text worker starts its engine, rather than adopting one that runs."""
        return not self.llama_server_url

    @property
    def llm_url(self) -> str:
        """Return the text engine's address."""
        return (self.llama_server_url or f"http://127.0.0.1:{self.llm_port}").rstrip("/")

    @property
    def secrets(self) -> tuple[str, ...]:
        """Return every secret among the settings, for the log's redaction."""
        items = [item.strip() for item in self.api_tokens.split(",")]
        named = [item.partition(":")[2] or item for item in items]
        stores = [item.partition("=")[2] for item in self.batch_stores.split(",")]
        models = f"{self.model_url},{self.sd_model_url},{self.lora_url},{self.vae_url}".replace(",", " ").split()
        urls = (self.redis_url, self.artifacts_url, self.a1111_url, self.traces_url, self.batch_dir, *stores, *models)
        in_urls = [urlsplit(url).password or "" for url in urls] + [_signature(url) for url in models]
        # As an address holds it, and as the server takes it.
        passwords = [self.redis_pass, quote(self.redis_pass, safe=""), *in_urls, *map(unquote, in_urls)]
        whole = (
            self.redis_url,
            self.artifacts_url,
            self.webhook_key,
            self.token_key,
            self.hf_token,
            self.engine_api_key,
            self.metrics_token,
            self.flower_password,
        )
        return tuple(secret for secret in (*named, *passwords, *whole) if secret)


def variable(name: str) -> str:
    """Return the environment variable of a settings field."""
    by_name = {f.name: f for f in fields(Settings)}
    return str(by_name[name].metadata.get("name", f"GRAYCAT_{name.upper()}"))


def _installed(*modules: str) -> bool:
    try:
        return all(find_spec(module) is not None for module in modules)
    except ModuleNotFoundError:  # a package above it
        return False


def _signature(url: str) -> str:
    """Return an address's query, which may let somebody in; '' where it is too short for that."""
    query = urlsplit(url).query
    return query if len(query) >= MIN_KEY_CHARS else ""


def environment() -> dict[str, str]:
    """Return the process's environment over the ``.env`` file of the working directory, if there is one."""
    dotenv = Path(".env")
    values = honcho.environ.parse(dotenv.read_text()) if dotenv.is_file() else {}
    return {**values, **os.environ}


def engine_environment() -> dict[str, str]:
    """Return the environment of an engine's process: ours without our secrets, which it has no use for."""
    ours = {variable(f.name) for f in fields(Settings) if not f.repr}
    return {name: value for name, value in environment().items() if name not in ours}


def cast(env: Mapping[str, str], name: str, kind: Any) -> Any:
    """Return ``env``'s value for a field, as ``kind`` (str, int, float, bool or Path)."""
    text = env[variable(name)].strip()
    try:
        if kind in (bool, bool | None):
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        return kind(text)
    except (KeyError, ValueError):
        raise SettingsError(
            f"{variable(name)} must be of type {getattr(kind, '__name__', 'bool')}, not {text!r}"
        ) from None
