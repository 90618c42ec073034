"""Units for systemd, one a process: for machines where systemd supervises in the place of ``graycat up``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from graycat.errors import SettingsError
from graycat.families import FAMILIES
from graycat.supervision.specs import PROCESSES, ProcessSpec

#: The user, the settings and the state of a system's service; its folder below /var/lib is systemd's to make.
USER, ENVIRONMENT_FILE, STATE = "graycat", Path("/etc/graycat/env"), Path("/var/lib/graycat")
#: What an account may be called.
_ACCOUNT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
#: Folders of users, which ProtectHome= closes.
USER_FOLDERS = (Path("/home"), Path("/root"), Path("/run/user"))
#: Seconds before a process that has failed is started again.
RESTART_S = 2
#: Seconds that a process may take to end, beside those that running tasks get.
STOP_MARGIN_S = 50
#: What these commands start is an engine of the operator's choice, which may need a GPU's device files and may compile.
ENGINES = (*(f"graycat worker {family.name}" for family in FAMILIES), "graycat engine")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where graycat lies on a machine, and whose it is."""

    #: The command ``graycat``.
    program: Path = Path("/opt/graycat/.venv/bin/graycat")
    #: Where the processes run: relative paths in settings begin here.
    folder: Path = Path("/opt/graycat")
    home: Path = STATE
    #: Settings, ``NAME=value`` a line; the file need not exist.
    environment_file: Path = ENVIRONMENT_FILE
    #: The user of a system's service; None for units of a user's own systemd.
    user: str | None = USER
    #: Further folders that the processes write to, and files that they read.
    writes: tuple[Path, ...] = ()
    reads: tuple[Path, ...] = ()
    stop_grace_s: float = 10.0


def units(layout: Layout | None = None, processes: Iterable[ProcessSpec] = PROCESSES) -> dict[str, str]:
    """Return the text of every unit by its file's name. Raises SettingsError for a layout that no unit can have."""
    if layout is None:
        layout = Layout()
    _check(layout)
    specs = list(processes)
    found = {f"graycat-{spec.name}.service": service(spec, layout) for spec in specs}
    return {"graycat.target": _target(specs, layout)} | found


def _check(layout: Layout) -> None:
    """Raise SettingsError for a path or an account that would be something else in a unit."""
    if layout.user is not None and not _ACCOUNT.fullmatch(layout.user):
        raise SettingsError(f"--as {layout.user!r} is no name of an account")
    for path in (layout.program, layout.folder, layout.home, layout.environment_file, *layout.writes):
        text = str(path)
        # systemd starts no program with a quote in its path. A backslash means one thing in one line and another in the
        # next, and at the end it joins two lines.
        if not text.isprintable() or set("\\\"'") & set(text) or text != text.strip():
            raise SettingsError(f"systemd cannot use the path {text!r}: choose one of letters, digits and / . _ -")
    if set("*?[") & set(str(layout.environment_file)):
        raise SettingsError(f"--env {layout.environment_file} is a pattern for systemd: choose a name without * ? [")


def _target(specs: list[ProcessSpec], layout: Layout) -> str:
    # The exporter needs an environment of its own, which an operator makes first.
    wanted = " ".join(f"graycat-{spec.name}.service" for spec in specs if spec.name != "exporter")
    by = "multi-user.target"
    if layout.user is None:
        by = "default.target"
    return f"""\
# All processes of graycat. Take out of Wants= what this machine does not run.
[Unit]
Description=graycat: one address in front of a fleet of GPU boxes
Wants={wanted}

[Install]
WantedBy={by}
"""


def service(spec: ProcessSpec, layout: Layout) -> str:
    """Return the unit of one process."""
    after = ""
    if spec.name != "broker":
        after = " graycat-broker.service"
    sections = [
        f"""\
[Unit]
Description=graycat: {spec.name}
PartOf=graycat.target
After=network-online.target{after}
Wants=network-online.target
# A process that fails is tried again for ever.
StartLimitIntervalSec=0
""",
        "\n".join(["[Service]", *_run(spec, layout), *_sandbox(spec, layout), ""]),
        "[Install]\nWantedBy=graycat.target\n",
    ]
    return "\n".join(sections)


def _run(spec: ProcessSpec, layout: Layout) -> list[str]:
    arguments = spec.command.split()[1:]
    restart = "always"
    if spec.drainable:
        # Status 0 of a worker means that it was drained.
        restart = "on-failure"
    lines = []
    if layout.user is not None:
        lines += [f"User={layout.user}", f"Group={layout.user}"]
    lines += [
        "Type=exec",
        f"WorkingDirectory={_escape(layout.folder)}",
        f"EnvironmentFile=-{_escape(layout.environment_file)}",
        f"Environment={_quote(f'GRAYCAT_HOME={layout.home}')} PYTHONUNBUFFERED=1",
        f"ExecStart={' '.join([_quote(layout.program), *arguments])}",
        f"Restart={restart}",
        # Always the same: the steps of a back-off would be counted over the months that a unit runs, so that the sixth
        # failure of its life kept callers waiting for as long as a crash loop does.
        f"RestartSec={RESTART_S}",
        "# Running tasks get GRAYCAT_STOP_GRACE_S to finish, then the process ends by itself.",
        f"TimeoutStopSec={round(layout.stop_grace_s) + STOP_MARGIN_S}",
        "KillMode=mixed",
        "UMask=0077",
        f"SyslogIdentifier=graycat-{spec.name}",
    ]
    if spec.drainable:
        # A worker starts its engine again by itself if the kernel has ended it for want of memory.
        lines.append("OOMPolicy=continue")
    return lines


def _sandbox(spec: ProcessSpec, layout: Layout) -> list[str]:
    is_engine = spec.command.startswith(ENGINES)
    lines = [
        "NoNewPrivileges=yes",
        "LockPersonality=yes",
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
        "RestrictNamespaces=yes",
        "RestrictRealtime=yes",
        "RestrictSUIDSGID=yes",
        "SystemCallArchitectures=native",
        "SystemCallFilter=@system-service",
        "SystemCallErrorNumber=EPERM",
    ]
    if not is_engine:
        lines.append("MemoryDenyWriteExecute=yes")
    if layout.user is None:
        # The others need rights that a user's systemd does not have on every machine.
        return lines
    lines += [
        "CapabilityBoundingSet=",
        "PrivateTmp=yes",
        "ProtectSystem=strict",
        f"ProtectHome={_protect_home(layout)}",
        "ProtectControlGroups=yes",
        "ProtectHostname=yes",
        "ProtectKernelLogs=yes",
        "ProtectKernelModules=yes",
        "ProtectKernelTunables=yes",
        "ProtectProc=invisible",
        "RemoveIPC=yes",
    ]
    if not is_engine:
        # Both close the device files of GPUs.
        lines += ["PrivateDevices=yes", "ProtectClock=yes"]
    if layout.home == STATE:
        lines += ["StateDirectory=graycat", "StateDirectoryMode=0700"]
    written = [path for path in (layout.home, *layout.writes) if path != STATE]
    if written:
        # "-": a folder that is not there yet is no reason not to start.
        lines.append(f"ReadWritePaths={' '.join(_quote(f'-{path}') for path in written)}")
    return lines


def _protect_home(layout: Layout) -> str:
    """Return how far the folders of users are closed: what graycat needs may lie there."""
    needed = (layout.program, layout.folder, layout.home, *layout.reads, *layout.writes)
    if any(path.is_relative_to(folder) for path in needed for folder in USER_FOLDERS):
        return "read-only"
    return "yes"


def _escape(text: object) -> str:
    return str(text).replace("%", "%%")


def _quote(text: object) -> str:
    """Return a word of a line of systemd's: what stands in quotes is taken as it is, but for its specifiers."""
    escaped = _escape(text)
    # A dollar sign stays as it is: none of these words is an argument of a command, where it would begin a variable.
    if " " in escaped or ";" in escaped:
        return f'"{escaped}"'
    return escaped
