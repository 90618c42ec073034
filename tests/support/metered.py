"""What metrics say."""

from __future__ import annotations

from types import ModuleType


def value(module: ModuleType, name: str, **labels: str) -> float:
    """Return the value of one series of a module's registry; 0 where there is none."""
    found = module.registry.get_sample_value(name, labels)
    return float(found or 0.0)
