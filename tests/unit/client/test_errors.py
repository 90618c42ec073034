from __future__ import annotations

import graycat.auth.errors
import graycat.client.errors
import graycat.queue.errors
from graycat.client.errors import BY_TYPE, ApiError, QueueFull, RequestError, ServerError, Unavailable, error_in
from graycat.errors import GraycatError


def below(cls: type[GraycatError]) -> list[type[GraycatError]]:
    return [cls, *(found for child in cls.__subclasses__() for found in below(child))]


def test_errors_have_the_server_s_names_and_types() -> None:
    ours = {cls.__name__: cls.type for cls in BY_TYPE.values()}
    theirs = {cls.__name__: cls.type for cls in below(GraycatError)}
    common = ours.keys() & theirs.keys()
    assert {name: ours[name] for name in common} == {name: theirs[name] for name in common}
    assert {"TaskGone", "LimitExceeded", "QueueFull", "TaskLost"} <= common


def test_every_type_has_a_class_of_its_own() -> None:
    classes = [c for c in vars(graycat.client.errors).values() if isinstance(c, type) and issubclass(c, ApiError)]
    assert len(BY_TYPE) == len([cls for cls in classes if cls.type])


def test_an_answer_says_what_went_wrong() -> None:
    error = error_in(503, b'{"error": {"code": 503, "type": "queue_full", "message": "full"}}', 5.0)
    assert type(error) is QueueFull
    assert (error.status, error.type, error.message, error.retry_after_s) == (503, "queue_full", "full", 5.0)


def test_a_type_that_is_not_known_keeps_its_name_and_comes_as_the_base_of_its_status() -> None:
    bodies = {status: b'{"error": {"type": "newer", "message": "no"}}' for status in (400, 418, 500, 502, 503)}
    errors = [error_in(status, body) for status, body in bodies.items()]
    assert [type(error) for error in errors] == [RequestError, RequestError, ServerError, ServerError, Unavailable]
    assert {error.type for error in errors} == {"newer"}


def test_an_answer_of_somebody_else_is_an_error_too() -> None:
    for body in (b"<h1>Bad Gateway</h1>", b"", b"[]", b'{"error": null}', b'{"detail": "x"}'):
        error = error_in(502, body)
        assert (type(error), error.type) == (ServerError, "server_error")
        assert "502" in str(error)
