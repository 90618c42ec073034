"""Generates a client from a running server's document and lets it work: ``make generated-client``."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import click

from tests.support.stack import Stack, running

FOLDER = Path(__file__).parent
PACKAGE = "graycat_api"


def generate(environment: Path, document: bytes, target: Path) -> list[str]:
    """Write a client below ``target``; return what the generator could not read."""
    path = target / "openapi.json"
    path.write_bytes(document)
    options = ["--meta", "none", "--config", str(FOLDER / "config.yaml"), "--output-path", str(target / PACKAGE)]
    command = [str(environment / "bin" / "openapi-python-client"), "generate", "--path", str(path), *options]
    done = subprocess.run(command, cwd=target, check=True, capture_output=True, text=True)
    return [line for line in done.stdout.splitlines() if "parsing" in line or line.startswith("Unable")]


@click.command()
@click.argument("environment", type=click.Path(path_type=Path, exists=True))
def main(environment: Path) -> None:
    """ENVIRONMENT: a virtual environment with the packages of tools.txt."""
    with tempfile.TemporaryDirectory() as name:
        target = Path(name)
        with running(Stack(target / "home")) as stack:
            document = stack.client().get("/openapi.json").content
            problems = generate(environment.absolute(), document, target)
            for line in problems:
                click.echo(line)
            python = environment.absolute() / "bin" / "python"
            subprocess.run([python, FOLDER / "use.py", stack.url, stack.token], cwd=target, check=True)
    click.echo(f"the generated client works; {len(problems)} parts of the document were left out")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
