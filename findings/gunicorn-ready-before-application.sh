#!/usr/bin/env bash
# gunicorn tells systemd that it is ready before any worker has loaded the application, even one that cannot be loaded.
#
# Versions: gunicorn 27.0.1, gevent 26.9.0 (PyPI), Python 3.11.
# Behaviour: a unit of Type=notify counts as started when READY=1 comes to NOTIFY_SOCKET. gunicorn's arbiter sends it when its
# port is bound; without preload_app its workers import the application after that. So units that are ordered behind this one
# start while no request can be answered, and a unit whose application fails at import was "active" for a moment. Who wants
# the true moment sends READY=1 from a worker's hook, and hides NOTIFY_SOCKET from gunicorn.
# Seen:
#   slow application: ready, then imported
#   broken application: ready, then exit status 3
# Exit status: 0 if it is still so, 1 if it has changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check gunicorn==27.0.1 gevent==26.9.0 packaging==26.3

# Its import ends when the file "go" appears.
cat > "$folder/slow.py" <<'PYTHON'
import pathlib
import time

folder = pathlib.Path(__file__).parent
(folder / "importing").touch()
while not (folder / "go").exists():
    time.sleep(0.01)
(folder / "imported").touch()


def app(environ, start_response):
    start_response("200 OK", [])
    return [b"ok"]
PYTHON
echo 'raise RuntimeError("no configuration")' > "$folder/broken.py"

cat > "$folder/check.py" <<'PYTHON'
import os
import pathlib
import socket
import subprocess
import sys
import time

folder = pathlib.Path(sys.argv[1])


def start(module):
    """Start gunicorn; return its process and the socket to which it tells its state."""
    told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    told.bind(str(folder / f"{module}.notify"))
    told.settimeout(30)
    command = [sys.executable, "-m", "gunicorn", "-k", "gevent", "-b", "127.0.0.1:0", f"{module}:app"]
    env = {**os.environ, "NOTIFY_SOCKET": str(folder / f"{module}.notify")}
    return subprocess.Popen(command, cwd=folder, env=env, stderr=subprocess.DEVNULL), told


def wait_for(name):
    """Return whether a file appears within 30 s."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if (folder / name).exists():
            return True
        time.sleep(0.01)
    return False


def is_ready(told):
    try:
        return b"READY=1" in told.recv(4096)
    except TimeoutError:
        return False


process, told = start("slow")
ready = is_ready(told) and not (folder / "imported").exists()
importing = wait_for("importing")
(folder / "go").touch()
slow = ready and importing and wait_for("imported")
process.terminate()
process.wait(60)
print("slow application:", "ready, then imported" if slow else "changed")

process, told = start("broken")
ready = is_ready(told)
status = process.wait(60)
print(f"broken application: {'ready, then ' if ready else ''}exit status {status}")
sys.exit(not (slow and ready and status == 3))
PYTHON
"$folder/venv/bin/python" "$folder/check.py" "$folder"
