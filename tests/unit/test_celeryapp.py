from __future__ import annotations

import logging
from importlib import import_module
from pathlib import Path

import pytest
from celery import Celery, signals
from celery.exceptions import QueueNotFound

from graycat.celeryapp import CONSUMER_STEPS, CONTROL_STEP, HEARTBEAT_STEP, TASK_MODULES, WORKER_STEPS, create_celery
from graycat.queue import topology
from graycat.settings import Settings
from tests.support.helpers import Valkey


@pytest.fixture
def app(tmp_path: Path) -> Celery:
    return create_celery(Settings(home=tmp_path, lease_s=7.0))


def test_the_broker_is_the_settings_own(app: Celery, tmp_path: Path) -> None:
    with app.connection_for_write() as connection:
        assert connection.as_uri() == f"redis+socket://{Settings(home=tmp_path).broker_socket}"


def test_a_home_may_have_any_name(tmp_path_factory: pytest.TempPathFactory) -> None:
    broker = Valkey(tmp_path_factory.mktemp("50%41 #1?"))
    broker.start()
    with create_celery(broker.settings).connection_for_write() as connection:
        connection.SimpleQueue("greetings").put("hello")
    assert broker.client.llen("greetings") == 1
    broker.stop()


def test_a_password_reaches_the_broker_s_address_unbroken() -> None:
    app = create_celery(Settings(redis_host="broker.lan", redis_pass="p@ss/w:rd"))
    with app.connection_for_write() as connection:
        assert (connection.hostname, connection.port, connection.password) == ("broker.lan", 6379, "p@ss/w:rd")


def test_a_task_is_kept_until_it_is_finished(app: Celery) -> None:
    assert app.conf.task_acks_late
    assert app.conf.task_reject_on_worker_lost
    assert app.conf.worker_prefetch_multiplier == 1
    assert app.conf.broker_transport_options["visibility_timeout"] == 7.0


def test_only_data_travels(app: Celery) -> None:
    assert app.conf.accept_content == ["json"]
    assert (app.conf.task_serializer, app.conf.event_serializer) == ("json", "json")
    assert app.conf.task_ignore_result


def test_interactive_queues_come_before_batches(app: Celery) -> None:
    names = list(app.amqp.queues)
    assert names == list(topology.QUEUES)
    assert names.index("llm") < names.index("llm.batch")
    assert names.index("sd") < names.index("sd.batch")
    assert app.conf.broker_transport_options["queue_order_strategy"] == "priority"


def test_a_misspelt_queue_is_an_error_not_a_queue(app: Celery) -> None:
    with pytest.raises(QueueNotFound):
        app.send_task("llm.completion", args=["x"], queue="llm.quik")


def test_what_is_named_exists() -> None:
    for name in (*WORKER_STEPS, *CONSUMER_STEPS, CONTROL_STEP, HEARTBEAT_STEP):
        module, _, step = name.partition(":")
        assert callable(getattr(import_module(module), step))
    assert [import_module(name).__name__ for name in TASK_MODULES] == list(TASK_MODULES)


def test_steps_are_registered(app: Celery) -> None:
    assert set(WORKER_STEPS) <= app.steps["worker"]
    assert set(CONSUMER_STEPS) <= app.steps["consumer"]


@pytest.mark.parametrize(("kind", "takes_control"), [("", True), ("control", True), ("llm", False), ("quick", False)])
def test_only_a_worker_that_may_take_the_control_queue_has_its_steps(kind: str, *, takes_control: bool) -> None:
    app = create_celery(Settings(), kind=kind)
    assert (CONTROL_STEP in app.steps["worker"]) is takes_control
    assert (HEARTBEAT_STEP in app.steps["consumer"]) is takes_control


@pytest.mark.usefixtures("app")
def test_celery_leaves_the_setting_up_of_logging_to_graycat(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    monkeypatch.setattr("graycat.log.setup", calls.append)
    replies = signals.setup_logging.send(sender=None, loglevel=logging.INFO, logfile=None, format="", colorize=False)
    assert replies
    assert Settings(home=calls[-1].home, lease_s=7.0) == calls[-1]  # type: ignore[attr-defined]


def test_no_limited_task_waits_in_a_worker_s_memory(app: Celery) -> None:
    assert app.conf.worker_disable_rate_limits is True
