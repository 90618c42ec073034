"""A Docker to run on: that of this machine if it gets images, else one from Debian's packages, with stand-in bases.

The one from packages needs root and no registry. Its daemon runs in a mount namespace of its own and changes nothing in
this machine's network: no iptables, no forwarding. Containers reach each other; builds use the machine's network.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.processes import eventually

#: What the images of docker/ begin with: the name, the Debian release that stands in for it, and its packages.
PYTHON, VALKEY = "python:3.12.11-slim-bookworm", "valkey/valkey:8.1.3-alpine"
HAPROXY = "haproxy:2.6"
PACKAGES = {
    "engine": ("trixie", "docker.io,docker-cli,docker-compose,docker-buildx,iptables,ca-certificates,iproute2,procps"),
    "python": ("bookworm", "python3,python3-venv,python3-pip,ca-certificates"),
    "valkey": ("trixie", "valkey-server,valkey-tools,ca-certificates"),
    "haproxy": ("bookworm", "haproxy,ca-certificates"),
}
#: The oldest Compose that docker/README.md asks for.
COMPOSE = (2, 20)
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
#: Addresses of the daemon's networks.
BRIDGE, POOL = "172.31.250.1/24", "base=172.31.240.0/21,size=24"
#: Its network interface in this machine.
INTERFACE = Path("/sys/class/net/docker0")
#: Seconds that the daemon gets to start, and to stop.
START_S, STOP_S = 60.0, 30.0

STANDINS = {
    PYTHON: """
FROM standin/python
COPY authorities.crt /etc/ssl/certs/ca-certificates.crt
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin
RUN ln -s /usr/bin/python3 /usr/local/bin/python
""",
    VALKEY: """
FROM standin/valkey
RUN userdel valkey; groupadd -g 1000 valkey && useradd -r -u 999 -g 1000 valkey \\
 && install -d -o 999 -g 1000 /data
VOLUME /data
WORKDIR /data
""",
    HAPROXY: """
FROM standin/haproxy
RUN userdel haproxy; groupadd -g 99 haproxy && useradd -r -u 99 -g 99 haproxy
USER haproxy
ENTRYPOINT ["haproxy", "-W", "-db"]
CMD ["-f", "/usr/local/etc/haproxy/haproxy.cfg"]
""",
}


@dataclass(frozen=True)
class Docker:
    """How to call a Docker: ``env`` are the variables of its clients; ``standins``: whether bases are made here."""

    env: dict[str, str]
    standins: bool

    def run(self, *words: str, timeout_s: float = 60.0, cwd: Path | None = None, check: bool = True) -> str:
        """Run ``docker`` and return what it prints. Raises RuntimeError with its words if it fails."""
        done = subprocess.run(
            ["docker", *words], env=self.env, cwd=cwd, capture_output=True, text=True, timeout=timeout_s, check=False
        )
        if check and done.returncode:
            raise RuntimeError(f"docker {shlex.join(words)}: {done.stdout}{done.stderr}")
        return done.stdout


def find_docker() -> Docker | None:
    """Return this machine's Docker, None if there is none, its Compose is too old, or it gets no images."""
    docker = Docker(dict(os.environ), standins=False)
    try:
        docker.run("info")
        version = docker.run("compose", "version", "--short").lstrip("v").split(".")
        if tuple(map(int, version[:2])) < COMPOSE:
            return None
        docker.run("pull", "--quiet", PYTHON, timeout_s=300)
    except (RuntimeError, OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return docker


@contextmanager
def packaged_docker(folder: Path, say: Callable[[str], None]) -> Iterator[Docker]:
    """Make a Docker from packages in a folder, with stand-ins for the bases, and run it for the block.

    Roots that are in the folder from an earlier run are used again.
    """
    if os.geteuid() != 0:
        raise RuntimeError("a Docker from packages needs root: run this with sudo")
    for name, (release, packages) in PACKAGES.items():
        _make_root(folder, name, release, packages, say)
    plugins = folder / "config" / "cli-plugins"
    shutil.copytree(folder / "engine/usr/libexec/docker/cli-plugins", plugins, dirs_exist_ok=True)
    # Its client and plugins bring all that they need, and run on older releases, too.
    (folder / "bin").mkdir(exist_ok=True)
    shutil.copy(folder / "engine/usr/bin/docker", folder / "bin/docker")
    env = dict(os.environ) | {"DOCKER_HOST": f"unix://{folder}/docker.sock", "DOCKER_CONFIG": f"{folder}/config"}
    env["PATH"] = f"{folder}/bin:{env['PATH']}"
    docker = Docker(env, standins=True)
    had_bridge = INTERFACE.exists()
    daemon = _start_daemon(folder)
    try:
        _wait_for(docker, daemon, folder)
        for image, recipe in STANDINS.items():
            _build_standin(docker, folder, image, recipe)
        yield docker
    finally:
        _stop_daemon(daemon, folder)
        if not had_bridge:
            _remove_bridge()


def _remove_bridge() -> None:
    """Remove the network interface that the daemon leaves behind."""
    subprocess.run(["ip", "link", "delete", INTERFACE.name], capture_output=True, check=False)


def _make_root(folder: Path, name: str, release: str, packages: str, say: Callable[[str], None]) -> None:
    """Unpack packages into a folder (the engine's) or a tar; an unfinished one of an earlier run is made again."""
    target = folder / ("engine" if name == "engine" else f"{name}.tar")
    finished = folder / f"{name}.finished"
    if finished.exists() and finished.read_text() == packages:
        return
    say(f"unpacking {release}'s packages for {name}")
    if target.is_dir():
        shutil.rmtree(target)
    target.unlink(missing_ok=True)
    listing = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Label: Debian"]
    mirror = subprocess.run(listing, capture_output=True, text=True, check=True).stdout.split("\n")[0]
    source = f"deb {mirror or 'http://deb.debian.org/debian'} {release} main"
    command = ["mmdebstrap", "--mode=root", "--variant=minbase", f"--include={packages}", release, str(target), source]
    with (folder / f"{name}.log").open("w") as log:
        done = subprocess.run(command, stdout=log, stderr=log, check=False)
    if done.returncode:
        raise RuntimeError(f"mmdebstrap for {name} failed: see {log.name}")
    finished.write_text(packages)


def _start_daemon(folder: Path) -> subprocess.Popen[bytes]:
    """Start dockerd on the packages' own root, in a mount namespace of its own."""
    root = folder / "engine"
    for name in ("data", "exec"):
        (folder / name).mkdir(exist_ok=True)
    script = f"""
        set -e
        root={shlex.quote(str(root))} folder={shlex.quote(str(folder))}
        mkdir -p $root/outside $root$folder
        mount --bind $root $root
        for name in proc sys dev; do mount --rbind /$name $root/$name; done
        mount --bind $folder $root$folder
        cp -L /etc/resolv.conf $root/etc/resolv.conf
        cd $root && pivot_root . outside && cd / && umount -l /outside
        exec dockerd --host unix://$folder/docker.sock --pidfile $folder/docker.pid \\
            --data-root $folder/data --exec-root $folder/exec \\
            --iptables=false --ip6tables=false --ip-forward=false --ip-masq=false \\
            --bip {BRIDGE} --default-address-pool {POOL}
    """
    with (folder / "daemon.log").open("w") as log:
        command = ["unshare", "--mount", "--propagation", "private", "bash", "-c", script]
        return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)


def _wait_for(docker: Docker, daemon: subprocess.Popen[bytes], folder: Path) -> None:
    def started() -> bool:
        """Return whether it answers, or has ended."""
        answers = (folder / "docker.sock").exists() and docker.run("version", check=False).count("Version:") > 1
        return answers or daemon.poll() is not None

    with suppress(AssertionError):
        eventually(started, START_S, every_s=0.5)
        if daemon.poll() is None:
            return
    raise RuntimeError(f"dockerd did not start: {(folder / 'daemon.log').read_text()[-2000:]}")


def _stop_daemon(daemon: subprocess.Popen[bytes], folder: Path) -> None:
    """Stop the daemon with all that it has started; nothing of it stays mounted, nothing runs."""
    daemon.send_signal(signal.SIGTERM)
    try:
        daemon.wait(STOP_S)
    except subprocess.TimeoutExpired:
        os.killpg(daemon.pid, signal.SIGKILL)
        daemon.wait()
    for name in ("docker.sock", "docker.pid"):
        (folder / name).unlink(missing_ok=True)


def _build_standin(docker: Docker, folder: Path, image: str, recipe: str) -> None:
    """Import a root, and build what stands in for a base from it."""
    name = image.split(":")[0].split("/")[-1]
    if docker.run("images", "--quiet", image).strip():
        return
    docker.run("import", str(folder / f"{name}.tar"), f"standin/{name}", timeout_s=300)
    context = folder / f"standin-{name}"
    context.mkdir(exist_ok=True)
    shutil.copy(AUTHORITIES, context / "authorities.crt")
    (context / "Dockerfile").write_text(recipe)
    # The older builder takes a base that is here alone.
    docker_env = docker.env | {"DOCKER_BUILDKIT": "0"}
    command = ["docker", "build", "--quiet", "--tag", image, str(context)]
    done = subprocess.run(command, env=docker_env, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise RuntimeError(f"{image}: {done.stdout}{done.stderr}")
