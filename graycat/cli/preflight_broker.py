"""What ``graycat up --check`` finds out about the broker."""

from __future__ import annotations

import contextlib
import re
import subprocess
import time
from typing import Any

import redis

from graycat.broker.client import check, connect
from graycat.broker.protocol import Broker
from graycat.broker.release import join_version, oldest_release, parse_version, server_release
from graycat.cli import broker
from graycat.errors import BrokerUnavailable, SettingsError
from graycat.settings import Settings

#: Seconds that the embedded server may take to print its version.
VERSION_TIMEOUT_S = 30.0
#: Records and leases are timed by the broker's clock; further apart, times that callers see look wrong.
MAX_CLOCK_DIFFERENCE_S = 2.0


def describe(settings: Settings, processes: dict[str, str]) -> tuple[list[str], list[str]]:
    """Return what to say of the broker, and what to warn of. Raises SettingsError if it cannot be used."""
    if settings.embedded_broker:
        if "graycat broker" not in processes.values():
            return ["none runs here"], []
        return [f"embedded, {_embedded_version()}"], []
    check(settings)
    client = connect(settings)
    try:
        return _describe_server(client)
    except (redis.RedisError, BrokerUnavailable) as error:
        raise SettingsError(f"the broker in REDIS_URL or REDIS_HOST does not answer ({type(error).__name__})") from None
    finally:
        client.close()


def clock_difference_s(settings: Settings) -> float | None:
    """Return by how many seconds this machine's clock is ahead of the broker's; None if that is not to be had."""
    if settings.embedded_broker:
        return None
    client = connect(settings)
    try:
        before = time.time()
        seconds, microseconds = client.time()
        # The reply was made in the middle between both.
        return (before + time.time()) / 2 - (seconds + microseconds / 1e6)
    # Its user may not ask, or it is away, which is said elsewhere.
    except (redis.RedisError, BrokerUnavailable):
        return None
    finally:
        client.close()


def _embedded_version() -> str:
    """Return what the embedded server says of itself. Raises SettingsError if it cannot be started."""
    command = [broker.server_program(), "--version"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=VERSION_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise SettingsError(f"the embedded broker cannot be started: {error}") from None
    found = re.search(r"v=(\S+)", done.stdout)
    if found is None:
        raise SettingsError("the embedded broker does not say its version")
    return f"Valkey {found[1]}"


def _describe_server(client: Broker) -> tuple[list[str], list[str]]:
    name, version = _read_release(client)
    oldest = oldest_release(name)
    if parse_version(version) < oldest:
        raise SettingsError(f"the broker is {name} {version}; graycat needs {join_version(oldest)} or newer")
    warnings = []
    # Users of boxes may not ask for these.
    with contextlib.suppress(redis.ResponseError):
        if not client.info("persistence").get("aof_enabled"):
            warnings.append("appendonly is off: a restart of the broker loses what was accepted")
        memory = client.info("memory")
        policy = memory.get("maxmemory_policy", "noeviction")
        if memory.get("maxmemory") and policy != "noeviction":
            warnings.append(f"maxmemory-policy is {policy}: a full broker drops accepted tasks; set noeviction")
        if not memory.get("maxmemory"):
            warnings.append("it has no maxmemory: it takes all of its machine's memory")
    return [f"{name} {version}"], warnings


def _read_release(client: Broker) -> tuple[str, str]:
    """Return the name and the version of the server; users of boxes may ask for them with HELLO alone."""
    with contextlib.suppress(redis.ResponseError):
        return server_release(client.info("server"))
    reply: Any = client.execute_command("HELLO")
    if not isinstance(reply, dict):
        reply = dict(zip(reply[::2], reply[1::2], strict=True))
    return reply.get(b"server", b"redis").decode(), reply.get(b"version", b"").decode()
