from __future__ import annotations

from dataclasses import fields
from importlib import import_module

import pytest

from graycat import families
from graycat.families import FAMILIES, LLM, SD, EngineFamily
from graycat.metrics.server import PORTS_PER_KIND
from graycat.queue.names import Lane, QueueName
from graycat.queue.topology import WORKER_KINDS
from graycat.settings import Settings

each_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


@each_family
def test_a_family_s_queues_are_written_as_names_of_queues_are(family: EngineFamily) -> None:
    name = QueueName(family.name)
    assert family.interactive == str(name)
    assert family.batch == str(name.in_lane(Lane.BATCH))
    assert family.quick in ("", str(name.in_lane(Lane.QUICK)))
    assert bool(family.quick) is bool(family.quick_worker) is bool(family.quick_worker_help)


@each_family
def test_what_a_family_names_is_there(family: EngineFamily) -> None:
    settings = {field.name for field in fields(Settings)}
    named = {family.port_setting, family.gpus_setting, f"run_{family.name}", family.url_setting, family.command_setting}
    named |= {family.queue_ttl_setting, family.exec_timeout_setting, *family.checkpoint_folders}
    assert named <= settings
    module, _, function = family.engine.partition(":")
    assert callable(getattr(import_module(module), function))
    assert import_module(family.task_module)


def test_no_two_families_share_ids_or_ports() -> None:
    digits = [digit for family in FAMILIES for digit in family.id_digits]
    assert len(digits) == len(set(digits))
    offsets = sorted(kind.metrics_offset for kind in WORKER_KINDS.values())
    assert all(b - a >= PORTS_PER_KIND for a, b in zip(offsets, offsets[1:], strict=False))


@pytest.mark.parametrize(
    ("kind", "family"), [("llm.chat", LLM), ("llm.quick", LLM), ("sd", SD), ("control.deliver", None)]
)
def test_a_kind_of_task_tells_its_family(kind: str, family: EngineFamily | None) -> None:
    assert families.find_by_kind(kind) is family


@pytest.mark.parametrize(
    ("queues", "family"),
    [
        (("llm", "llm.batch"), LLM),
        (("llm.quick",), LLM),
        (("sd", "sd.batch"), SD),
        (("llm", "sd", "control"), SD),
        (("control",), None),
        (("llm.batch", "sd.batch"), None),
    ],
)
def test_the_queues_of_a_worker_tell_its_engine(queues: tuple[str, ...], family: EngineFamily | None) -> None:
    assert families.find_by_queues(queues) is family


def test_a_family_reads_its_own_settings() -> None:
    settings = Settings(sd_port=7000, sd_gpus=" Auto ", run_sd=False, sd_queue_ttl_s=1, sd_exec_timeout_s=2)
    assert (SD.port(settings), SD.gpus(settings), SD.is_enabled(settings)) == (7000, "auto", False)
    assert SD.deadlines(settings) == (1, 2)
    assert LLM.deadlines(settings) == (settings.queue_ttl_s, settings.exec_timeout_s)


def test_calls_without_a_slot_wait_for_seconds_and_never_for_longer_than_others() -> None:
    assert LLM.deadlines(Settings(), quick=True) == (10, 10)
    settings = Settings(quick_timeout_s=8, queue_ttl_s=5)
    assert LLM.deadlines(settings, quick=True) == (5, 8)


def test_an_engine_that_runs_already_is_not_owned() -> None:
    settings = Settings(llama_server_url="http://box:1", a1111_url="http://box:2")
    assert [family.owns_engine(settings) for family in FAMILIES] == [False, False]
    assert [family.owns_engine(Settings()) for family in FAMILIES] == [True, True]


def test_only_images_have_a_placeholder_until_an_engine_is_named() -> None:
    assert [family.is_placeholder(Settings()) for family in FAMILIES] == [False, True]
    assert not SD.is_placeholder(Settings(sd_startup_command="sd-server"))
    assert not SD.is_placeholder(Settings(a1111_url="http://box:2"))
