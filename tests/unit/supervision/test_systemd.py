from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from graycat.errors import SettingsError
from graycat.supervision.specs import PROCESSES, ProcessSpec
from graycat.supervision.systemd import Layout, service, units
from tests.support.helpers import ROOT

FOLDER = ROOT / "systemd"


def test_the_shipped_units_are_those_of_the_process_list() -> None:
    shipped = {path.name: path.read_text() for path in FOLDER.iterdir() if path.suffix != ".md"}
    assert shipped == units()


def settings_of(spec: ProcessSpec, layout: Layout) -> configparser.SectionProxy:
    """Return what the unit of a process says of its service."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(service(spec, layout))
    return parser["Service"]


@pytest.mark.parametrize("spec", PROCESSES, ids=lambda spec: spec.name)
def test_a_unit_starts_its_process_and_knows_a_drained_worker(spec) -> None:
    settings = settings_of(spec, Layout())
    assert settings["ExecStart"] == f"/opt/graycat/.venv/bin/{spec.command}"
    assert settings["Restart"] == ("on-failure" if spec.drainable else "always")
    # systemd counts the failures of a unit since its start, however long it has run between them.
    assert "RestartSteps" not in settings


@pytest.mark.parametrize("spec", PROCESSES, ids=lambda spec: spec.name)
def test_only_engines_get_at_gpus_and_may_compile(spec) -> None:
    settings = settings_of(spec, Layout())
    closed = [name for name in ("PrivateDevices", "ProtectClock", "MemoryDenyWriteExecute") if name in settings]
    assert len(closed) == (0 if spec.name in ("llm", "sd") else 3)


def test_a_unit_may_write_to_its_state_and_to_what_settings_name_and_to_nothing_else() -> None:
    web = ProcessSpec("web", "graycat web")
    usual = settings_of(web, Layout())
    assert (usual["StateDirectory"], usual["ProtectSystem"]) == ("graycat", "strict")
    assert "ReadWritePaths" not in usual
    other = settings_of(web, Layout(home=Path("/srv/a b"), writes=(Path("/srv/100%"),)))
    assert other["ReadWritePaths"] == '"-/srv/a b" -/srv/100%%'
    assert "StateDirectory" not in other
    assert other["Environment"].startswith('"GRAYCAT_HOME=/srv/a b" ')


BREAKS = "/srv/a\nExecStartPre=/bin/true"


@pytest.mark.parametrize(
    "layout",
    [
        *(
            Layout(home=Path(text))
            for text in (BREAKS, "/srv/a\\", "/srv/a ", "/srv/\udcff", "/srv/\x1b[2J", '/srv/a"b')
        ),
        Layout(program=Path(BREAKS)),
        Layout(folder=Path(BREAKS)),
        Layout(environment_file=Path(BREAKS)),
        Layout(writes=(Path(BREAKS),)),
        Layout(environment_file=Path("/etc/[a]/env")),
        *(Layout(user=user) for user in ("", "a b", "a\nExecStartPre=/bin/true", "%h", "-x")),
    ],
    ids=repr,
)
def test_what_would_be_something_else_in_a_unit_is_refused(layout: Layout) -> None:
    with pytest.raises(SettingsError, match="systemd|--as"):
        units(layout)


@pytest.mark.parametrize(
    "layout", [Layout(program=Path("/home/me/bin/graycat")), Layout(reads=(Path("/root/model.gguf"),))], ids=str
)
def test_the_folders_of_users_stay_readable_if_graycat_lies_there(layout: Layout) -> None:
    web = ProcessSpec("web", "graycat web")
    assert settings_of(web, layout)["ProtectHome"] == "read-only"
    assert settings_of(web, Layout())["ProtectHome"] == "yes"


def test_a_user_s_own_systemd_gets_what_it_has_the_rights_for() -> None:
    settings = settings_of(ProcessSpec("web", "graycat web"), Layout(user=None))
    assert "NoNewPrivileges" in settings
    assert {"User", "ProtectSystem", "PrivateTmp", "StateDirectory"}.isdisjoint(settings)
    assert "WantedBy=default.target" in units(Layout(user=None))["graycat.target"]


def write_units(folder: Path) -> list[str]:
    """Write the units into a folder, with a program that is here in place of the installed one; return their paths."""
    for name, text in units().items():
        (folder / name).write_text(text.replace("/opt/graycat/.venv/bin/graycat", "/bin/true"))
    return [str(path) for path in sorted(folder.iterdir())]


@pytest.fixture
def analyze() -> str:
    """Return systemd's own judge of units."""
    found = shutil.which("systemd-analyze")
    if found is None:
        pytest.skip("systemd-analyze is not installed: apt-get install systemd")
    return found


def test_systemd_calls_every_unit_safe(analyze: str, tmp_path: Path) -> None:
    paths = [path for path in write_units(tmp_path) if path.endswith(".service")]
    # 0 is the safest and 10 means no sandbox. A service without one gets 9.6, one of an engine here 2.2.
    command = [analyze, "security", "--offline=true", "--threshold=30", *paths]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if "unrecognized option" in done.stderr:
        pytest.skip("needs systemd 250 or newer")
    assert done.returncode == 0, [line for line in done.stdout.splitlines() if "Overall" in line]
    assert done.stdout.count("Overall exposure level") == len(PROCESSES)


def test_systemd_takes_every_unit(analyze: str, tmp_path: Path) -> None:
    paths = write_units(tmp_path)
    done = subprocess.run(
        [analyze, "verify", "--man=no", *paths], capture_output=True, text=True, timeout=60, check=False
    )
    assert [line for line in done.stderr.splitlines() if "graycat" in line] == []


@pytest.mark.parametrize("name", ["a b", "a$b", "50%", "\u00fc", "a;b"])
def test_systemd_finds_the_program_and_the_home_whatever_they_are_called(
    analyze: str, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    (folder / "graycat").symlink_to("/bin/true")
    layout = Layout(program=folder / "graycat", folder=folder, home=folder)
    path = tmp_path / "graycat-web.service"
    path.write_text(service(ProcessSpec("web", "graycat web"), layout))
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert [line for line in done.stderr.splitlines() if "graycat" in line] == []
    # What systemd calls a variable in a command is none here.
    assert "$$" not in path.read_text()
