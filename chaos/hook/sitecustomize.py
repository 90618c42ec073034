"""Puts the harness's hooks into a graycat process: Python loads this file if its folder is on PYTHONPATH.

``CHAOS_TRAPS`` names the folder of the traps (``traps.py``), ``CHAOS_PROCESS`` what this process is called there, and
``CHAOS_MUTANT`` one of the known ways to break graycat (``mutations.py``). Without them nothing is changed, and
graycat's own code knows nothing of any of it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any

Change = Callable[[Any], None]


class ChangedModules(MetaPathFinder):
    """Changes modules when they are imported: before that, gevent may not have patched what they import."""

    def __init__(self, changes: Mapping[str, list[Change]]) -> None:
        self._changes = changes

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        """Return the spec of a module that is changed after its own code has run."""
        changes = self._changes.get(fullname)
        if not changes:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None:
            return None
        loader: Any = spec.loader
        run = loader.exec_module

        def run_and_change(module: Any) -> None:
            run(module)
            for change in changes:
                change(module)

        loader.exec_module = run_and_change
        return spec


def install() -> None:
    """Install the hooks that the environment names."""
    changes: dict[str, list[Change]] = {}
    if os.environ.get("CHAOS_TRAPS"):
        from chaos.hook import timeouts, watchers

        for name, change in [*watchers.changes().items(), *timeouts.changes().items()]:
            changes.setdefault(name, []).append(change)
    mutant = os.environ.get("CHAOS_MUTANT")
    if mutant:
        from chaos.hook import mutations

        for name, breaks in mutations.MUTATIONS[mutant].changes.items():
            changes.setdefault(name, []).extend(breaks)
    if changes:
        sys.meta_path.insert(0, ChangedModules(changes))


install()
