"""What the double is told: the flags of the real server that matter, its version, and faults."""

from __future__ import annotations

import argparse
from pathlib import Path

#: Releases whose habits the double has, oldest first.
VERSIONS = ("0.3.40", "0.3.64", "0.24.0", "0.38.0")
DEFAULT_VERSION = "0.24.0"
#: How a node of a class fails. ``kill`` ends the server's process; ``hang`` goes on for ever and heeds no interrupt.
FAILURES = ("error", "oom", "kill", "hang")
#: What the socket does: ``refused`` has no route, ``silent`` sends nothing after its first message, ``cut`` drops the
#: connection at the first progress of each run.
SOCKETS = ("well", "refused", "silent", "cut")
#: What the double tells that is not so; see ``lies.py``.
LIES = (
    *("other_history", "path_in_filename", "no_image", "html_image", "huge_history", "html", "wrong_id"),
    *("no_outputs", "big_preview", "broken_preview", "deep_json", "broken_messages", "broken_history"),
    *("mute_submit", "flood", "huge_image", "bomb"),
)


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return the reader of the command line."""
    options = argparse.ArgumentParser(description=description)
    real = options.add_argument_group("flags of the real server")
    real.add_argument("--port", type=int, default=8188, help="0: any free one")
    real.add_argument("--listen", nargs="?", default="127.0.0.1", const="0.0.0.0")  # noqa: S104 (as upstream)
    real.add_argument("--base-directory", type=Path, help="a folder of its own in the temporary folder by default")
    for kind in ("output", "input", "temp"):
        real.add_argument(f"--{kind}-directory", type=Path)
    real.add_argument("--preview-method", choices=["none", "auto", "latent2rgb", "taesd"], default="none")
    real.add_argument("--preview-size", type=int, default=512)
    real.add_argument("--max-upload-size", type=float, default=100, metavar="MB")
    real.add_argument("--disable-metadata", action="store_true")
    real.add_argument("--disable-api-nodes", action="store_true")
    real.add_argument("--cache-none", action="store_true")
    for ignored in ("--cpu", "--disable-auto-launch", "--disable-all-custom-nodes", "--dont-print-server"):
        real.add_argument(ignored, action="store_true")
    real.add_argument("--cuda-device", help="nothing here depends on it")
    double = options.add_argument_group("the double's own")
    double.add_argument("--comfyui-version", choices=VERSIONS, default=DEFAULT_VERSION)
    double.add_argument("--step-s", type=float, default=0.02, help="seconds of a sampler's step")
    double.add_argument("--closed", type=float, default=0.0, help="seconds before the port opens")
    double.add_argument("--fail", choices=FAILURES, help="how a node fails")
    double.add_argument("--failing-node", default="KSampler", metavar="CLASS", help="which class of node fails")
    double.add_argument("--fails", type=int, help="how many of the first such nodes fail; all by default")
    double.add_argument("--socket", choices=SOCKETS, default="well")
    double.add_argument("--lie", choices=LIES)
    double.add_argument("--models", type=int, default=2, help="how many checkpoints there are")
    return options
