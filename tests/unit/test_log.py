from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from graycat import log
from graycat.log import MIN_LEVELS, PRIVATE, ROUTINE, EventFormatter
from graycat.settings import Settings
from tests.support.escapes import EVIL, is_clean


def line(message: str, *args: Any, secrets: Any = (), exc_info: Any = None, **extra: Any) -> str:
    """Return what is written of a record."""
    record = logging.getLogger("graycat.web").makeRecord(
        "graycat.web", logging.INFO, __file__, 1, message, args, exc_info, extra=extra
    )
    return EventFormatter(secrets).format(record)


def traceback_of(action: Any) -> Any:
    try:
        action()
    except Exception:  # noqa: BLE001 (any will do)
        return sys.exc_info()
    raise AssertionError("nothing was raised")


def test_a_record_is_one_line_with_its_fields_behind() -> None:
    written = line("request", route="/health", status=200, ms=1.5)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ INFO graycat\.web (.*)", written)
    assert written.endswith("request route=/health status=200 ms=1.5")


def test_times_are_in_utc() -> None:
    record = logging.makeLogRecord({"name": "x", "levelname": "INFO", "msg": "epoch"})
    record.created = 0.0
    assert EventFormatter().format(record).startswith("1970-01-01T00:00:00Z ")


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("plain", "plain"),
        ("two words", '"two words"'),
        ("", '""'),
        ('say "hi"', r'"say \"hi\""'),
        ("a=b", '"a=b"'),
        ("first\nsecond", r'"first\nsecond"'),
        ("first\rsecond", r'"first\rsecond"'),
        (None, "None"),
        (("llm", "sd"), "\"('llm', 'sd')\""),
    ],
)
def test_a_value_never_looks_like_another_field(value: Any, written: str) -> None:
    assert line("event", field=value).endswith(f" event field={written}")


@pytest.mark.parametrize("forged", ["first\nsecond", "first\r\nsecond"])
def test_a_message_stays_on_its_line(forged: str) -> None:
    assert len(line("worker said %s", forged, status=200).splitlines()) == 1


@pytest.mark.parametrize("name", sorted(PRIVATE))
def test_private_fields_are_never_written(name: str) -> None:
    written = line("event", **{name: "my secret diary"})
    assert written.endswith(f" event {name}=[redacted]")


def test_a_traceback_follows_its_line_and_the_fields_stay_on_it() -> None:
    written = line("failed", exc_info=traceback_of(lambda: 1 / 0), task_id="abc")
    head, *rest = written.splitlines()
    assert head.endswith("failed task_id=abc")
    assert rest[0] == "  Traceback (most recent call last):"
    assert rest[-1].startswith("  ZeroDivisionError")


SECRETS = ["hush-hush", 'quo"ted', "back\\slash", "schlüssel", "two words"]


@pytest.mark.parametrize("secret", SECRETS)
def test_a_known_secret_is_redacted_in_foreign_messages(secret: str) -> None:
    written = line("GET /?key=%s HTTP/1.1", secret, secrets=(secret,))
    assert secret not in written
    assert "GET /?key=[redacted] HTTP/1.1" in written


@pytest.mark.parametrize("secret", SECRETS)
def test_a_known_secret_is_redacted_in_fields(secret: str) -> None:
    written = line("event", reason=f"cannot reach redis://:{secret}@host now", secrets=(secret,))
    assert "[redacted]@host" in written


def test_a_known_secret_is_redacted_in_tracebacks() -> None:
    def fail() -> None:
        raise ValueError("bad key hush-hush")

    written = line("failed", exc_info=traceback_of(fail), secrets=("hush-hush",))
    assert "hush-hush" not in written
    assert "ValueError: bad key [redacted]" in written


def test_of_two_secrets_the_longer_goes_first() -> None:
    assert line("key=hush-hush-hush", secrets=("hush-hush", "hush-hush-hush")).endswith("key=[redacted]")


def test_tokens_that_graycat_made_never_get_through() -> None:
    minted, player = "gc_12345678_" + "aB-_" * 12, "gp_" + "aB-_" * 20 + "." + "aB-_" * 10
    assert line("seen", header=f"Bearer {minted}").endswith('header="Bearer gc_12345678_[redacted]"')
    assert line(f"seen {player}").endswith("seen gp_[redacted]")
    assert line("seen", prefix="gc_12345678").endswith("prefix=gc_12345678")


@pytest.fixture
def untouched_logging() -> Iterator[None]:
    """Put logging back as pytest had it."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in MIN_LEVELS | ROUTINE}
    # pytest's own handlers would be closed by ``force``.
    root.handlers = []
    yield
    root.handlers = handlers
    root.setLevel(level)
    for name, chatty in levels.items():
        logging.getLogger(name).setLevel(chatty)


@pytest.mark.usefixtures("untouched_logging")
def test_every_logger_writes_to_standard_error_without_the_settings_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    log.setup(Settings(api_tokens="game:hush-hush", log_level="warning"), "made-up-key")
    logging.getLogger("celery.worker").warning("foreign: hush-hush and made-up-key")
    logging.getLogger("celery.worker").info("unimportant")
    logging.getLogger("celery.app.trace").info("a line a task")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.endswith(" WARNING celery.worker foreign: [redacted] and [redacted]\n")
    assert len(captured.err.splitlines()) == 1


@pytest.mark.usefixtures("untouched_logging")
@pytest.mark.parametrize("name", sorted(ROUTINE))
def test_what_libraries_do_every_time_is_said_to_whoever_looks_for_a_fault_alone(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    for level in ("info", "debug"):
        log.setup(Settings(log_level=level))
        logging.getLogger(name).info("as ever")
        # Celery's lines come from loggers below this one.
        logging.getLogger(f"{name}.more").info("as ever")
        logging.getLogger(name).error("a fault")
    errors, *debugging = capsys.readouterr().err.splitlines()
    assert errors.endswith(f" ERROR {name} a fault")
    assert len(debugging) == 3


def test_nothing_in_a_record_is_obeyed_by_a_terminal_or_looks_like_another_record() -> None:
    def fail() -> None:
        raise ValueError("x" + EVIL)

    written = line("seen" + EVIL, exc_info=traceback_of(fail), name_of="x" + EVIL)
    assert is_clean(written)
