from __future__ import annotations

import pytest

from graycat.engines.placeholder import catalog


@pytest.mark.parametrize(
    ("asked", "scheduler", "expected"),
    [
        ("Heun", None, ("Heun", "Automatic")),
        ("Heun Karras", None, ("Heun", "Karras")),
        ("Heun Karras", "", ("Heun", "Karras")),
        ("Heun Karras", "normal", ("Heun", "Normal")),
        ("DPM2 Karras", None, ("DPM2", "Automatic")),
        ("HeunKarras", None, ("DPM++ 2M", "Automatic")),
        ("Karras", None, ("DPM++ 2M", "Automatic")),
        ("Heun", "SGMUniform", ("Heun", "Automatic")),
        ("Heun", "SGM Uniform", ("Heun", "SGM Uniform")),
        ("Heun SGMUniform", None, ("Heun", "SGM Uniform")),
        ("Heun SGM Uniform", None, ("DPM++ 2M", "Uniform")),
    ],
)
def test_names_are_split_and_never_refused(asked: str, scheduler: str | None, expected: tuple[str, str]) -> None:
    assert catalog.resolve_sampler(asked, scheduler) == expected


def test_the_checkpoint_says_what_it_is_under_each_of_its_names() -> None:
    title = f"placeholder [{catalog.HASH}]"
    assert set(catalog.CHECKPOINT_ALIASES) == {"placeholder", title, catalog.HASH, catalog.SHA256}


def test_memory_adds_up() -> None:
    ram = catalog.read_memory()["ram"]
    assert ram.get("error") or ram["free"] + ram["used"] == ram["total"]


def test_no_flag_contains_a_credential() -> None:
    assert not [name for name in catalog.LISTS["cmd-flags"] if "auth" in name]
