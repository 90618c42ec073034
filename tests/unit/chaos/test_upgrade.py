"""The upgrade replaces every process, checks that both versions run, and fails at what must not be."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from chaos.audit import Violation
from chaos.upgrade import ORDERS, PASSES, Pass, check_package, unpack
from graycat.supervision.specs import PROCESSES

pytestmark = pytest.mark.not_covered


def test_each_pass_replaces_every_process_but_the_broker() -> None:
    # The exporter is a program of others.
    wanted = {spec.name for spec in PROCESSES} - {"broker", "exporter"}
    assert {order for order, _ in PASSES} == set(ORDERS)
    assert {name: set(order) for name, order in ORDERS.items()} == dict.fromkeys(ORDERS, wanted)
    assert all(len(order) == len(wanted) for order in ORDERS.values())


def test_each_order_is_once_an_upgrade_and_once_a_rollback() -> None:
    assert sorted(PASSES) == sorted((order, version) for order in ORDERS for version in ("old", "new"))
    # From the old version, there and back.
    assert [version for _, version in PASSES] == ["new", "old", "new", "old"]


def test_what_is_refused_meanwhile_is_permitted_and_nothing_else() -> None:
    kinds = ("refused stream", "refused request", "lost", "twice", "broken stream", "task failed", "step")
    done = Pass("web first", "new", [Violation(kind, "it") for kind in kinds])
    assert [violation.kind for violation in done.unforeseen] == list(kinds[2:])


def test_a_version_that_is_not_the_one_that_runs_is_found(tmp_path: Path) -> None:
    wheel = tmp_path / "graycat-0.0.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("graycat/__init__.py", "")
        archive.writestr("celeryconfig.py", "")
    folder = unpack(str(wheel), tmp_path / "old")
    check_package(folder, os.environ | {"PYTHONPATH": str(folder)})
    (tmp_path / "other").mkdir()
    with pytest.raises(AssertionError, match="old"):
        check_package(tmp_path / "other", os.environ | {"PYTHONPATH": str(folder)})


def test_what_is_no_commit_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no-such-commit is no commit of this repository"):
        unpack("no-such-commit", tmp_path / "old")
