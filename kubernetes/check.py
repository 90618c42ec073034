"""Render the kustomization, and check each object against its schema: ``make kubernetes``. Needs no cluster."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
#: The module that has the models of a group.
MODULES = {
    "v1": "kubernetes.core.v1",
    "apps/v1": "kubernetes.apps.v1",
    "policy/v1": "kubernetes.policy.v1",
    "networking.k8s.io/v1": "kubernetes.networking.v1",
    "keda.sh/v1alpha1": "keda.v1alpha1",
}


def render() -> list[dict[str, Any]]:
    """Return the objects as ``kubectl apply -k`` would send them."""
    kubectl = Path(sys.executable).parent / "kubectl"
    done = subprocess.run([kubectl, "kustomize", HERE], check=True, capture_output=True, text=True, timeout=60)
    return list(yaml.safe_load_all(done.stdout))


def unknown_fields(given: Any, known: Any, path: str) -> Iterator[str]:
    """Yield the paths of what a model did not take."""
    if isinstance(given, dict) and isinstance(known, dict):
        for name, value in given.items():
            if name not in known:
                yield f"{path}.{name}"
            else:
                yield from unknown_fields(value, known[name], f"{path}.{name}")
    elif isinstance(given, list) and isinstance(known, list):
        for index, (value, kept) in enumerate(zip(given, known, strict=True)):
            yield from unknown_fields(value, kept, f"{path}[{index}]")


def problems(found: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with an object. The models pass over fields that they do not know: these are wrong, too."""
    name = f"{found['kind']} {found['metadata']['name']}"
    model = getattr(import_module(f"cloudcoil.models.{MODULES[found['apiVersion']]}"), found["kind"])
    try:
        known = model.model_validate(found).model_dump(mode="json", by_alias=True, exclude_unset=True)
    except ValueError as error:
        yield f"{name}: {error}"
        return
    yield from unknown_fields(found, known, name)


def main() -> int:
    """Print what is wrong; return 1 if anything is."""
    objects = render()
    # What is known to be wrong must be found.
    broken = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "broken", "labelz": {}}}
    if list(problems(broken)) != ["Namespace broken.metadata.labelz"]:
        raise AssertionError("the check finds nothing in what is broken")
    wrong = [problem for found in objects for problem in problems(found)]
    sys.stdout.write("\n".join([*wrong, f"kubernetes: {len(objects)} objects, {len(wrong)} problems\n"]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
