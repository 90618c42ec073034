"""``graycat flower``; what it serves: tests/unit/flower/test_app.py."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

from tests.support.helpers import Valkey, run


def test_a_port_that_is_taken_names_its_variable(broker: Valkey, bare_environment: dict[str, str]) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = str(holder.getsockname()[1])
        env = bare_environment | {"GRAYCAT_HOME": str(broker.settings.home), "FLOWER_PORT": port}
        result = run([str(Path(sys.executable).parent / "graycat"), "flower"], env)
    assert result.returncode == 2, result.stderr
    assert "FLOWER_PORT" in result.stderr
    assert "Traceback" not in result.stderr
