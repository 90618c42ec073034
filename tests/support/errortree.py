"""Every error of graycat's tree, whichever room it lies in."""

from __future__ import annotations

import importlib
import pkgutil

import graycat
from graycat.errors import GraycatError


def all_errors() -> set[type[GraycatError]]:
    """Return GraycatError and all of its subclasses, with every room's ``errors`` module loaded."""
    for module in pkgutil.walk_packages(graycat.__path__, "graycat."):
        if module.name.endswith(".errors") and not module.name.startswith("graycat.client."):
            importlib.import_module(module.name)
    return _with_subclasses(GraycatError)


def _with_subclasses(base: type[GraycatError]) -> set[type[GraycatError]]:
    return {base}.union(*(_with_subclasses(child) for child in base.__subclasses__()))
