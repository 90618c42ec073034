"""Samplers and schedulers: the names that WebUI clients know, and ComfyUI's own.

A WebUI's older names hold both ("DPM++ 2M Karras"). Names are matched whatever their case.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

#: ComfyUI's sampler by the WebUI's name.
SAMPLERS = {
    "DPM++ 2M": "dpmpp_2m",
    "DPM++ SDE": "dpmpp_sde",
    "DPM++ 2M SDE": "dpmpp_2m_sde",
    "DPM++ 2M SDE Heun": "dpmpp_2m_sde_heun",
    "DPM++ 2S a": "dpmpp_2s_ancestral",
    "DPM++ 3M SDE": "dpmpp_3m_sde",
    "Euler a": "euler_ancestral",
    "Euler": "euler",
    "LMS": "lms",
    "Heun": "heun",
    "DPM2": "dpm_2",
    "DPM2 a": "dpm_2_ancestral",
    "DPM fast": "dpm_fast",
    "DPM adaptive": "dpm_adaptive",
    "DDIM": "ddim",
    "DDPM": "ddpm",
    "UniPC": "uni_pc",
    "LCM": "lcm",
    "DEIS": "deis",
    "IPNDM": "ipndm",
    "IPNDM_V": "ipndm_v",
    "Res Multistep": "res_multistep",
}
#: ComfyUI's scheduler by the WebUI's label.
SCHEDULERS = {
    "Uniform": "normal",
    "Karras": "karras",
    "Exponential": "exponential",
    "SGM Uniform": "sgm_uniform",
    "Simple": "simple",
    "Normal": "normal",
    "DDIM": "ddim_uniform",
    "Beta": "beta",
    "Linear Quadratic": "linear_quadratic",
    "KL Optimal": "kl_optimal",
}
AUTOMATIC = "Automatic"
#: What "Automatic" is for these samplers of the WebUI; "normal" for all others. From its table of samplers.
_KARRAS = ("DPM++ 2M", "DPM++ SDE", "DPM++ 2M SDE", "DPM++ 2M SDE Heun", "DPM++ 2S a", "LMS", "DPM2", "DPM2 a")
_AUTOMATIC = {**dict.fromkeys(_KARRAS, "karras"), "DPM++ 3M SDE": "exponential"}
DEFAULT_SAMPLER, DEFAULT_SCHEDULER = "euler", "normal"


class SamplerNames:
    """The names that one ComfyUI takes: of the WebUI, as far as it has such a sampler or scheduler, and its own."""

    def __init__(self, samplers: Iterable[str], schedulers: Iterable[str]) -> None:
        self.samplers = list(samplers)
        self.schedulers = list(schedulers)
        self._samplers = _by_name(SAMPLERS, self.samplers)
        self._schedulers = _by_name(SCHEDULERS, self.schedulers)

    def find(self, sampler: str, scheduler: str) -> tuple[str, str]:
        """Return ComfyUI's sampler and scheduler for the names of a request; '' for none.

        Raises KeyError with the field that names none: ``sampler_name`` or ``scheduler``.
        """
        own_sampler, in_name = self._find_sampler(sampler)
        if scheduler and scheduler.lower() != AUTOMATIC.lower():
            found = self._schedulers.get(scheduler.lower())
            if found is None:
                raise KeyError("scheduler")
            return own_sampler, found
        return own_sampler, in_name or self._automatic(own_sampler)

    def _find_sampler(self, name: str) -> tuple[str, str]:
        """Return a sampler, and the scheduler that its name tells ('' if it tells none)."""
        wanted = name.lower()
        if not wanted:
            return DEFAULT_SAMPLER, ""
        if wanted in self._samplers:
            return self._samplers[wanted], ""
        for label, scheduler in self._schedulers.items():
            start = wanted.removesuffix(f" {label}")
            if start != wanted and start in self._samplers:
                return self._samplers[start], scheduler
        raise KeyError("sampler_name")

    def _automatic(self, sampler: str) -> str:
        label = label_of_sampler(sampler)
        chosen = _AUTOMATIC.get(label, DEFAULT_SCHEDULER)
        return chosen if chosen in self.schedulers else DEFAULT_SCHEDULER

    def list_samplers(self) -> list[dict[str, Any]]:
        """Return the list ``/samplers``, with ComfyUI's own name as an alias."""
        rows = []
        for own in self.samplers:
            label = label_of_sampler(own)
            rows.append({"name": label, "aliases": [own], "options": {"scheduler": self._automatic(own)}})
        return rows

    def list_schedulers(self) -> list[dict[str, Any]]:
        """Return the list ``/schedulers``."""
        rows = [_scheduler_row("automatic", AUTOMATIC)]
        for own in self.schedulers:
            rows.append(_scheduler_row(own, label_of_scheduler(own)))
        return rows


def label_of_sampler(own: str) -> str:
    """Return the WebUI's name of a sampler of ComfyUI; its own if the WebUI has none."""
    return _label(SAMPLERS, own)


def label_of_scheduler(own: str) -> str:
    """Return the WebUI's label of a scheduler of ComfyUI; its own if the WebUI has none."""
    # "Uniform" and "Normal" are the same there; the second is what newer clients call it.
    return "Normal" if own == "normal" else _label(SCHEDULERS, own)


def _label(table: Mapping[str, str], own: str) -> str:
    for label, name in table.items():
        if name == own:
            return label
    return own


def _by_name(table: Mapping[str, str], present: Iterable[str]) -> dict[str, str]:
    """Return ComfyUI's names by all names in lower case, of those that are present."""
    names = {own.lower(): own for own in present}
    for label, own in table.items():
        if own in names.values():
            names[label.lower()] = own
    return names


def _scheduler_row(name: str, label: str) -> dict[str, Any]:
    return {"name": name, "label": label, "aliases": None, "default_rho": -1.0, "need_inner_model": False}
