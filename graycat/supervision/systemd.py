"""Units for systemd, one a process: for machines where systemd supervises in the place of ``graycat up``."""

from __future__ import annotations

from graycat.supervision.specs import PROCESSES, ProcessSpec

#: Where the units expect graycat, its settings and its state.
ROOT, ENVIRONMENT_FILE, STATE = "/opt/graycat", "/etc/graycat/env", "/var/lib/graycat"

_TARGET = f"""\
# All processes of graycat. Take out of Wants= what this machine does not run.
[Unit]
Description=graycat: one address in front of a fleet of GPU boxes
Wants={" ".join(f"graycat-{spec.name}.service" for spec in PROCESSES if spec.name != "exporter")}

[Install]
WantedBy=multi-user.target
"""

_SERVICE = """\
[Unit]
Description=graycat: {name}
PartOf=graycat.target
After=network-online.target{after}
Wants=network-online.target
# A process that fails is tried again for ever, at most every 30 seconds.
StartLimitIntervalSec=0

[Service]
User=graycat
Group=graycat
WorkingDirectory={root}
EnvironmentFile={environment_file}
Environment=GRAYCAT_HOME={state}
ExecStart={root}/.venv/bin/{command}
Restart={restart}
RestartSec=1
RestartSteps=5
RestartMaxDelaySec=30
# Running tasks get GRAYCAT_STOP_GRACE_S to finish, then the process ends by itself.
TimeoutStopSec=60
KillMode=mixed
StateDirectory=graycat
StateDirectoryMode=0700
UMask=0077
NoNewPrivileges=yes
PrivateTmp=yes
ProtectSystem=strict
ProtectHome=yes
ProtectControlGroups=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictSUIDSGID=yes
LockPersonality=yes

[Install]
WantedBy=graycat.target
"""


def service(spec: ProcessSpec) -> str:
    """Return the unit of one process."""
    after = ""
    if spec.name != "broker":
        after = " graycat-broker.service"
    restart = "always"
    if spec.drainable:
        # Status 0 of a worker means that it was drained.
        restart = "on-failure"
    return _SERVICE.format(
        name=spec.name,
        command=spec.command,
        after=after,
        restart=restart,
        root=ROOT,
        environment_file=ENVIRONMENT_FILE,
        state=STATE,
    )


def units() -> dict[str, str]:
    """Return the text of every unit by its file's name."""
    found = {f"graycat-{spec.name}.service": service(spec) for spec in PROCESSES}
    return {"graycat.target": _TARGET} | found
