"""What there is to choose from: samplers, schedulers, the one checkpoint, upscalers, scripts."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, NamedTuple

NAME = "placeholder"
VERSION = "v1.10.1-placeholder"

#: There is no file to take it of; it stands for how pictures are drawn, so change it with that.
SHA256 = hashlib.sha256(b"graycat placeholder renderer, drawing 1").hexdigest()
HASH = SHA256[:10]
TITLE = f"{NAME} [{HASH}]"
#: Every name under which requests and options may choose the checkpoint.
CHECKPOINT_ALIASES = frozenset({TITLE, NAME, HASH, SHA256})

SD_MODELS = [
    {"title": TITLE, "model_name": NAME, "hash": HASH, "sha256": SHA256, "filename": NAME, "config": None},
]


class Sampler(NamedTuple):
    """One sampler. ``scheduler``: the schedule that Automatic means for it; ``traits``: what else is true of it."""

    name: str
    alias: str
    scheduler: str | None = None
    traits: tuple[str, ...] = ()

    def item(self) -> dict[str, Any]:
        """Return it as it is listed, where all options are strings."""
        options = {"scheduler": self.scheduler} if self.scheduler else {}
        return {"name": self.name, "aliases": [self.alias], "options": options | dict.fromkeys(self.traits, "True")}


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
#: Requests choose by name or label; a sampler's name may also end with an alias.
SCHEDULER_LABELS = {key: s.label for s in SCHEDULERS for key in (s.name, s.label)}
_SUFFIXES = {f" {key}": s for s in SCHEDULERS for key in (s.name, s.label, *(s.aliases or []))}


def sampler_and_scheduler(asked: str, scheduler: str | None) -> tuple[str, str]:
    """Return the sampler's name and the scheduler's label that a request gets; names are never refused.

    "Euler a Karras" is split, but its Karras loses to any scheduler that is given. Unknown samplers become the first
    of the list, unknown schedulers Automatic. Endings are tried in the schedulers' order, as upstream does, so that
    "Heun SGM Uniform" ends in Uniform and leaves a sampler that nobody knows.
    """
    name, suffix = asked, None
    for ending, found in _SUFFIXES.items():
        if name.endswith(ending):
            name, suffix = name.removesuffix(ending), found
    sampler = name if name in SAMPLERS else DEFAULT_SAMPLER
    if scheduler:
        return sampler, SCHEDULER_LABELS.get(scheduler, AUTOMATIC)
    # The sampler's own schedule is what Automatic means.
    if suffix is None or suffix.name == SAMPLERS[sampler].scheduler:
        return sampler, AUTOMATIC
    return sampler, suffix.label


LATENT = (
    "Latent",
    "Latent (antialiased)",
    "Latent (bicubic)",
    "Latent (bicubic antialiased)",
    "Latent (nearest)",
    "Latent (nearest-exact)",
)

#: Those that need no weights; what they do is done here too.
UPSCALERS = ("None", "Lanczos", "Nearest")


def upscalers() -> list[dict[str, Any]]:
    """Return the upscalers."""
    return [
        {"name": name, "model_name": None, "model_path": None, "model_url": None, "scale": 4.0} for name in UPSCALERS
    ]


class Argument(NamedTuple):
    """One argument of a script."""

    label: str
    value: Any
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    choices: list[str] | None = None


#: Scripts that always run, of which requests may send the arguments; here they change nothing, since each has fields
#: of the request beside it.
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


def script_info() -> list[dict[str, Any]]:
    """Return the scripts' arguments, once for each kind of generation."""
    return [
        {"name": name, "is_alwayson": True, "is_img2img": img2img, "args": [a._asdict() for a in arguments]}
        for img2img in (False, True)
        for name, arguments in SCRIPTS.items()
    ]


def memory() -> dict[str, Any]:
    """Return what is used of the RAM in bytes; there is no GPU."""
    try:
        page, pages = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_PHYS_PAGES")
        used = int(Path("/proc/self/statm").read_text().split()[1]) * page
    except (OSError, ValueError) as error:
        return {"ram": {"error": str(error)}, "cuda": {"error": "unavailable"}}
    total = page * pages
    return {"ram": {"free": total - used, "used": used, "total": total}, "cuda": {"error": "unavailable"}}


#: Routes that answer with the same list for ever; the lists that need files are empty.
LISTS: dict[str, Any] = {
    "samplers": [sampler.item() for sampler in SAMPLERS.values()],
    "schedulers": [scheduler._asdict() for scheduler in SCHEDULERS],
    "upscalers": upscalers(),
    "latent-upscale-modes": [{"name": name} for name in LATENT],
    "sd-models": SD_MODELS,
    "sd-vae": [],
    "hypernetworks": [],
    # Upstream's own two, listed whether or not their weights are there. Here they restore nothing.
    "face-restorers": [{"name": "CodeFormer", "cmd_dir": None}, {"name": "GFPGAN", "cmd_dir": None}],
    "realesrgan-models": [],
    "prompt-styles": [],
    "embeddings": {"loaded": {}, "skipped": {}},
    "loras": [],
    "scripts": {"txt2img": list(SCRIPTS), "img2img": list(SCRIPTS)},
    "script-info": script_info(),
    "extensions": [],
    # What was given at the start; credentials have no place in here.
    "cmd-flags": {"api": True, "nowebui": False, "listen": False, "server_name": None, "api_server_stop": False},
}
