"""Settings: read from the environment once, into one frozen object; the only reader of ``os.environ``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints
from urllib.parse import quote, urlsplit

from graycat.errors import SettingsError
from graycat.settings import broker, extras, sentinel
from graycat.settings.dotenv import locate, read_assignments, read_dotenv
from graycat.settings.edge import EdgeSettings
from graycat.settings.groups import (
    BatchSettings,
    EngineSettings,
    FrontSettings,
    LimitSettings,
    MonitoringSettings,
    ScaleSettings,
    ScheduleSettings,
)
from graycat.settings.rules import (
    MIN_TOKEN_KEY_CHARS,
    choice,
    complaint,
    is_port,
    is_secret,
    named_secrets,
    not_negative,
    password,
    plain,
    positive,
    secret,
    secret_url,
    secrets_in,
    tcp_port,
    variable_of,
)

#: The variable of sd_notify(3): where a process tells its supervisor that it does its work.
NOTIFY_VARIABLE = "NOTIFY_SOCKET"
#: The file of settings in the working directory.
DOTENV = Path(".env")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


@dataclass(frozen=True, kw_only=True)
class Settings(
    EngineSettings,
    LimitSettings,
    MonitoringSettings,
    FrontSettings,
    EdgeSettings,
    BatchSettings,
    ScaleSettings,
    ScheduleSettings,
):
    """What an operator can set; each group of settings is a class of ``graycat.settings.groups``."""

    #: ``name:secret`` pairs or bare secrets, parted by commas. Empty: one is generated and stored in ``home``.
    api_tokens: str = named_secrets("API_TOKENS")

    #: The key with which minted API tokens are hashed and players' tokens are signed, the same for every web process
    #: and the command line. Empty: one is generated and stored in ``home``.
    token_key: str = secret(min_chars=MIN_TOKEN_KEY_CHARS)

    #: The state of this installation: broker data, models, API token, engine logs.
    home: Path = Path("var")

    #: True: only workers run here, and connect to a broker elsewhere. False: only engines, open to callers that have
    #: their key. None: everything on this machine.
    remote: bool | None = plain(None, "REMOTE")
    #: The name of this machine in the fleet; empty: its host name.
    box: str = ""

    # Broker. Without any of these three it is the embedded Valkey, on a Unix socket in ``home``.
    redis_url: str = secret_url("REDIS_URL")
    redis_host: str = plain("", "REDIS_HOST")
    redis_pass: str = password("REDIS_PASS")
    #: Memory (MiB) that the embedded broker may take; 0: a quarter of this machine's.
    broker_max_memory_mib: int = not_negative(0)
    #: The CA that signed the certificate of a ``rediss://`` broker (PEM); empty: those that this machine trusts.
    redis_ca_file: str = ""
    #: The user and the password that the sentinels of a ``sentinel://`` address themselves ask for.
    sentinel_username: str = ""
    sentinel_password: str = password()

    # Addresses.
    host: str = plain("127.0.0.1", "HOST")
    port: int = tcp_port(8000, "PORT")
    flower_port: int = tcp_port(5555, "FLOWER_PORT")
    exporter_port: int = tcp_port(9808, "EXPORTER_PORT")

    #: A stream whose task has had no event for this many seconds gets status 200 and is kept alive with comments.
    keepalive_s: float = positive(5.0)
    #: Processes ``graycat web`` runs; each serves thousands of streams.
    web_workers: int = positive(1)
    #: Seconds that running tasks get to finish at a shutdown.
    stop_grace_s: float = positive(10.0)
    log_level: str = choice("INFO", LOG_LEVELS)

    def __post_init__(self) -> None:
        problems = list(filter(None, (complaint(setting, getattr(self, setting.name)) for setting in fields(self))))
        checks = (self._check_ports_differ, self._check_broker, self._check_mode)
        for check in (*checks, self._check_monitoring, self._check_scaling):
            with collect_problems(problems):
                check()
        if problems:
            raise SettingsError(*problems)

    def _check_ports_differ(self) -> None:
        names_by_port: dict[int, str] = {}
        for setting in fields(self):
            if not is_port(setting):
                continue
            number = getattr(self, setting.name)
            if number == 0:
                # None is opened.
                continue
            if number in names_by_port:
                other = names_by_port[number]
                raise SettingsError(f"{variable_of(setting)} and {variable(other)} are the same port")
            names_by_port[number] = setting.name

    def _check_monitoring(self) -> None:
        if self.metrics_port and not self.metrics_token and self.metrics_host not in LOOPBACK:
            raise SettingsError(f"{variable('metrics_host')} opens metrics to others: set {variable('metrics_token')}")
        if self.traces_url and urlsplit(self.traces_url).scheme not in ("http", "https"):
            raise SettingsError(f"{variable('traces_url')} must begin with http:// or https://")
        if self.traces_url:
            extras.require("tracing", extras.TRACING, variable("traces_url"))

    def _check_scaling(self) -> None:
        for setting in fields(ScaleSettings):
            if not setting.name.endswith("_min_workers"):
                continue
            least, most = setting.name, setting.name.replace("_min_", "_max_")
            if getattr(self, least) > getattr(self, most):
                raise SettingsError(f"{variable(least)} must not be more than {variable(most)}")

    def _check_mode(self) -> None:
        if self.remote and self.embedded_broker:
            raise SettingsError("REMOTE=true needs REDIS_URL or REDIS_HOST: the broker that the workers here work for")
        if self.remote is False and not self.engine_api_key:
            raise SettingsError(f"REMOTE=false opens the engines to everybody: set {variable('engine_api_key')}")

    def _check_broker(self) -> None:
        if self.redis_url and not broker.is_known(self.redis_url):
            raise SettingsError(f"REDIS_URL must begin with {', '.join(broker.SCHEMES)}")
        if not broker.has_port(self.redis_url):
            raise SettingsError("REDIS_URL has no port from 1 to 65535; write # / ? @ of a password as %23 %2F %3F %40")
        # This also checks the form of the address.
        has_sentinels = self.sentinel is not None
        if self.redis_ca_file and not broker.uses_tls(self.redis_url):
            schemes = "rediss:// or sentinels://"
            raise SettingsError(f"{variable('redis_ca_file')} is for a REDIS_URL that begins with {schemes}")
        if (self.sentinel_username or self.sentinel_password) and not has_sentinels:
            names = f"{variable('sentinel_username')} and {variable('sentinel_password')}"
            raise SettingsError(f"{names} are for a REDIS_URL that begins with sentinel://")
        if self.redis_ca_file and not os.access(self.redis_ca_file, os.R_OK):
            raise SettingsError(f"{variable('redis_ca_file')}: {self.redis_ca_file} cannot be read")

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Settings:
        """Read every field that ``env`` sets.

        ``env`` defaults to the process's environment over what a ``.env`` file in the working directory says.
        Raises SettingsError naming the variables of all values that cannot be used, the first in its message.
        """
        if env is None:
            return cls._from_environment()
        problems: list[str] = []
        types = get_type_hints(cls)
        values = {}
        for setting in fields(cls):
            if env.get(variable_of(setting)):
                with collect_problems(problems):
                    values[setting.name] = cast(env, setting.name, types[setting.name])
        # Without a value that is no number, what else is wrong can still be found.
        with collect_problems(problems):
            settings = cls(**values)
        if problems:
            raise SettingsError(*problems)
        return settings

    @classmethod
    def _from_environment(cls) -> Settings:
        """Read the process's environment over the ``.env`` file, whose lines are named in what is wrong."""
        in_file = read_assignments(DOTENV)
        problems = _misspelt_in_dotenv()
        with collect_problems(problems):
            settings = cls.from_env(environment())
        if not problems:
            return settings
        for name in in_file.keys() & os.environ.keys():
            # What the process's environment says is used instead.
            del in_file[name]
        raise SettingsError(*(locate(problem, DOTENV, in_file) for problem in problems))

    @property
    def broker_socket(self) -> Path:
        """Return the Unix socket of the embedded Valkey."""
        return broker.embedded_socket(self.home)

    @property
    def embedded_broker(self) -> bool:
        """Return whether graycat runs its own broker, the embedded Valkey."""
        return not (self.redis_url or self.redis_host)

    @property
    def sentinel(self) -> sentinel.SentinelAddress | None:
        """Return where the sentinels are that know the broker's address, None if the address itself is given."""
        if not sentinel.is_sentinel(self.redis_url):
            return None
        login = {"username": self.sentinel_username, "password": self.sentinel_password}
        return sentinel.parse(self.redis_url, ca_file=self.redis_ca_file, **login)

    @property
    def broker_url(self) -> str:
        """Return the broker's address as redis-py writes it (``unix://``, ``redis://`` or ``rediss://``).

        With sentinels, it is that of the first of them, as kombu writes it (``sentinel://``).
        """
        if self.sentinel is not None:
            return self.sentinel.urls[0]
        if self.redis_url:
            return broker.add_tls_options(self.redis_url, self.redis_ca_file)
        if self.redis_host:
            return broker.host_url(self.redis_host, self.redis_pass)
        return f"unix://{quote(str(self.broker_socket))}"

    @property
    def engine_host(self) -> str:
        """Return the address on which the engines of this machine listen."""
        if self.remote is False:
            # They require a key: _check_mode.
            return "0.0.0.0"  # noqa: S104
        return "127.0.0.1"

    @property
    def owns_llm_engine(self) -> bool:
        """Return whether the text worker starts its engine; else it adopts one that runs already."""
        return not self.llama_server_url

    @property
    def cancels_revoked_tasks(self) -> bool:
        """Return whether the tasks of an API token end with it."""
        return self.revoked_tasks.upper() == "CANCEL"

    @property
    def serves_unknown_models(self) -> bool:
        """Return whether a fleet with one model answers for any name."""
        return self.unknown_model.upper() == "SERVE"

    @property
    def llm_url(self) -> str:
        """Return the text engine's address."""
        return (self.llama_server_url or f"http://127.0.0.1:{self.llm_port}").rstrip("/")

    @property
    def secrets(self) -> tuple[str, ...]:
        """Return every secret among the settings, for the log's redaction."""
        found: list[str] = []
        for setting in fields(self):
            found += secrets_in(setting, getattr(self, setting.name))
        return tuple(found)


@contextmanager
def collect_problems(problems: list[str]) -> Iterator[None]:
    """Append what a SettingsError says to ``problems``, in place of raising it."""
    try:
        yield
    except SettingsError as error:
        problems += error.problems


def variable(name: str) -> str:
    """Return the environment variable of a settings field."""
    return variable_of(Settings.__dataclass_fields__[name])


def environment() -> dict[str, str]:
    """Return the process's environment over the ``.env`` file of the working directory, if there is one.

    Raises SettingsError for a file that cannot be read.
    """
    values = read_dotenv(DOTENV)
    values.update(os.environ)
    return values


def _misspelt_in_dotenv() -> list[str]:
    """Return a sentence for each name in the ``.env`` file that looks like a setting and is none.

    Those of the process's environment may be anybody's: ``graycat up --check`` tells of them.
    """
    # It reads the names of the settings out of this module.
    from graycat.settings.spelling import describe_unknown

    return describe_unknown(read_dotenv(DOTENV))


def engine_environment() -> dict[str, str]:
    """Return the environment of an engine's process: that of graycat without its secrets."""
    values = environment()
    values.pop(NOTIFY_VARIABLE, None)
    for setting in fields(Settings):
        if is_secret(setting):
            values.pop(variable_of(setting), None)
    return values


def take_notify_socket() -> str:
    """Return where this process's supervisor is told how it does, and forget it: what it starts does not speak for it.

    '' if nobody listens.
    """
    return os.environ.pop(NOTIFY_VARIABLE, "")


def is_writable(text: str) -> bool:
    """Return whether UTF-8 can write a text. Bytes of the environment that are none are read as half characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


#: What a text must be to be read as a type; for any other: a bool.
_WORDS: dict[Any, str] = {int: "a whole number", float: "a number"}


def cast(env: Mapping[str, str], name: str, kind: Any) -> Any:
    """Return ``env``'s value for a field, as ``kind`` (str, int, float, bool or Path)."""
    text = env[variable(name)].strip()
    if not is_writable(text):
        raise SettingsError(f"{variable(name)} is not UTF-8: set it on a terminal, or in a file, that is")
    try:
        if kind in (bool, bool | None):
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        return kind(text)
    except (KeyError, ValueError):
        wanted = _WORDS.get(kind, "true or false")
        raise SettingsError(f"{variable(name)} must be {wanted}, not {text[:100]!r}") from None
