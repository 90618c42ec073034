"""What requests can choose: samplers, schedulers, the one checkpoint, upscalers, scripts."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, NamedTuple

NAME = "placeholder"
VERSION = "v1.10.1-placeholder"

#: There is no model file to hash. This hash identifies the drawing code: change it together with the pictures.
SHA256 = hashlib.sha256(b"graycat placeholder renderer, drawing 1").hexdigest()
HASH = SHA256[:10]
TITLE = f"{NAME} [{HASH}]"
#: All names with which requests and options may choose the checkpoint.
CHECKPOINT_ALIASES = frozenset({TITLE, NAME, HASH, SHA256})

SD_MODELS = [
    {"title": TITLE, "model_name": NAME, "hash": HASH, "sha256": SHA256, "filename": NAME, "config": None},
]


class Sampler(NamedTuple):
    """One sampler. ``scheduler``: the schedule that Automatic selects. ``traits``: its other options, all true."""

    name: str
    alias: str
    scheduler: str | None = None
    traits: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the sampler as the API lists it: all options are strings."""
        options = {}
        if self.scheduler:
            options["scheduler"] = self.scheduler
        for trait in self.traits:
            options[trait] = "True"
        return {"name": self.name, "aliases": [self.alias], "options": options}


SAMPLERS = {
    sampler.name: sampler
    for sampler in (
        Sampler("DPM++ 2M", "k_dpmpp_2m", "karras"),
        Sampler("DPM++ SDE", "k_dpmpp_sde", "karras", ("second_order", "brownian_noise")),
        Sampler("DPM++ 2M SDE", "k_dpmpp_2m_sde", "exponential", ("brownian_noise",)),
        Sampler("DPM++ 2M SDE Heun", "k_dpmpp_2m_sde_heun", "exponential", ("brownian_noise",)),
        Sampler("DPM++ 2S a", "k_dpmpp_2s_a", "karras", ("uses_ensd", "second_order")),
        Sampler("DPM++ 3M SDE", "k_dpmpp_3m_sde", "exponential", ("discard_next_to_last_sigma", "brownian_noise")),
        Sampler("Euler a", "k_euler_a", None, ("uses_ensd",)),
        Sampler("Euler", "k_euler"),
        Sampler("LMS", "k_lms"),
        Sampler("Heun", "k_heun", None, ("second_order",)),
        Sampler("DPM2", "k_dpm_2", "karras", ("discard_next_to_last_sigma", "uses_ensd", "second_order")),
        Sampler("DPM2 a", "k_dpm_2_a", "karras", ("discard_next_to_last_sigma", "uses_ensd", "second_order")),
        Sampler("DPM fast", "k_dpm_fast", None, ("uses_ensd",)),
        Sampler("DPM adaptive", "k_dpm_ad", None, ("uses_ensd",)),
        Sampler("Restart", "restart", "karras", ("second_order",)),
        Sampler("DDIM", "ddim"),
        Sampler("DDIM CFG++", "ddim_cfgpp"),
        Sampler("PLMS", "plms"),
        Sampler("UniPC", "unipc"),
        Sampler("LCM", "k_lcm"),
    )
}
DEFAULT_SAMPLER = next(iter(SAMPLERS))


class Scheduler(NamedTuple):
    """One noise schedule."""

    name: str
    label: str
    aliases: list[str] | None = None
    default_rho: float = -1.0
    need_inner_model: bool = False


SCHEDULERS = (
    Scheduler("automatic", "Automatic"),
    Scheduler("uniform", "Uniform", need_inner_model=True),
    Scheduler("karras", "Karras", default_rho=7.0),
    Scheduler("exponential", "Exponential"),
    Scheduler("polyexponential", "Polyexponential", default_rho=1.0),
    Scheduler("sgm_uniform", "SGM Uniform", ["SGMUniform"], need_inner_model=True),
    Scheduler("kl_optimal", "KL Optimal"),
    Scheduler("align_your_steps", "Align Your Steps"),
    Scheduler("simple", "Simple", need_inner_model=True),
    Scheduler("normal", "Normal", need_inner_model=True),
    Scheduler("ddim", "DDIM", need_inner_model=True),
    Scheduler("beta", "Beta", need_inner_model=True),
)
AUTOMATIC = SCHEDULERS[0].label
#: The label of a scheduler, by the names that a request may use.
SCHEDULER_LABELS: dict[str, str] = {}
#: The scheduler that a sampler's name may end with, by the ending.
_SCHEDULER_SUFFIXES: dict[str, Scheduler] = {}
for _scheduler in SCHEDULERS:
    for _name in (_scheduler.name, _scheduler.label):
        SCHEDULER_LABELS[_name] = _scheduler.label
        _SCHEDULER_SUFFIXES[f" {_name}"] = _scheduler
    for _name in _scheduler.aliases or []:
        _SCHEDULER_SUFFIXES[f" {_name}"] = _scheduler


def resolve_sampler(requested: str, scheduler: str | None) -> tuple[str, str]:
    """Return the name of the sampler and the label of the scheduler for a request; no name is refused.

    "Euler a Karras" is split into both, but ``scheduler`` takes precedence. Unknown samplers are replaced by the first
    of the list, unknown schedulers by Automatic. As upstream, the suffixes are tried in the order of the schedulers:
    so "Heun SGM Uniform" is split into "Heun SGM" and "Uniform", and "Heun SGM" is unknown.
    """
    name = requested
    suffix: Scheduler | None = None
    for ending, found in _SCHEDULER_SUFFIXES.items():
        if name.endswith(ending):
            name = name.removesuffix(ending)
            suffix = found
    if name not in SAMPLERS:
        name = DEFAULT_SAMPLER
    if scheduler:
        return name, SCHEDULER_LABELS.get(scheduler, AUTOMATIC)
    # If the suffix names the sampler's own scheduler, upstream reports Automatic.
    if suffix is None or suffix.name == SAMPLERS[name].scheduler:
        return name, AUTOMATIC
    return name, suffix.label


LATENT_UPSCALERS = (
    "Latent",
    "Latent (antialiased)",
    "Latent (bicubic)",
    "Latent (bicubic antialiased)",
    "Latent (nearest)",
    "Latent (nearest-exact)",
)

#: Upscalers that need no weights: they work here too.
UPSCALERS = ("None", "Lanczos", "Nearest")


def list_upscalers() -> list[dict[str, Any]]:
    """Return the upscalers as the API lists them."""
    no_model = {"model_name": None, "model_path": None, "model_url": None}
    return [{"name": name, **no_model, "scale": 4.0} for name in UPSCALERS]


class Argument(NamedTuple):
    """One argument of a script."""

    label: str
    value: Any
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    choices: list[str] | None = None


#: Scripts that always run; requests may send their arguments. Here they have no effect, because the request has its own
#: fields for the same values.
SCRIPTS: dict[str, tuple[Argument, ...]] = {
    "refiner": (
        Argument("Refiner", False),
        Argument("Checkpoint", "", choices=["", TITLE]),
        Argument("Switch at", 0.8, 0.01, 1.0, 0.01),
    ),
    "sampler": (
        Argument("Sampling steps", 20, 1, 150, 1),
        Argument("Sampling method", DEFAULT_SAMPLER, choices=list(SAMPLERS)),
        Argument("Schedule type", AUTOMATIC, choices=[scheduler.label for scheduler in SCHEDULERS]),
    ),
    "seed": (
        Argument("Seed", -1),
        Argument("Extra", False),
        Argument("Variation seed", -1),
        Argument("Variation strength", 0, 0, 1, 0.01),
        Argument("Resize seed from width", 0, 0, 2048, 8),
        Argument("Resize seed from height", 0, 0, 2048, 8),
    ),
}


def list_script_info() -> list[dict[str, Any]]:
    """Return the scripts with their arguments, once for txt2img and once for img2img."""
    scripts = []
    for is_img2img in (False, True):
        for name, arguments in SCRIPTS.items():
            args = [argument._asdict() for argument in arguments]
            scripts.append({"name": name, "is_alwayson": True, "is_img2img": is_img2img, "args": args})
    return scripts


def read_memory() -> dict[str, Any]:
    """Return the memory that this process uses, in bytes; there is no GPU."""
    try:
        page, pages = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_PHYS_PAGES")
        used = int(Path("/proc/self/statm").read_text().split()[1]) * page
    except (OSError, ValueError) as error:
        return {"ram": {"error": str(error)}, "cuda": {"error": "unavailable"}}
    total = page * pages
    return {"ram": {"free": total - used, "used": used, "total": total}, "cuda": {"error": "unavailable"}}


#: Routes whose list never changes. The lists that depend on model files are empty.
LISTS: dict[str, Any] = {
    "samplers": [sampler.to_dict() for sampler in SAMPLERS.values()],
    "schedulers": [scheduler._asdict() for scheduler in SCHEDULERS],
    "upscalers": list_upscalers(),
    "latent-upscale-modes": [{"name": name} for name in LATENT_UPSCALERS],
    "sd-models": SD_MODELS,
    "sd-vae": [],
    "hypernetworks": [],
    # Upstream lists these two even if their weights are missing. Here they have no effect.
    "face-restorers": [{"name": "CodeFormer", "cmd_dir": None}, {"name": "GFPGAN", "cmd_dir": None}],
    "realesrgan-models": [],
    "prompt-styles": [],
    "embeddings": {"loaded": {}, "skipped": {}},
    "loras": [],
    "scripts": {"txt2img": list(SCRIPTS), "img2img": list(SCRIPTS)},
    "script-info": list_script_info(),
    "extensions": [],
    # The command line; it must not contain credentials.
    "cmd-flags": {"api": True, "nowebui": False, "listen": False, "server_name": None, "api_server_stop": False},
}
