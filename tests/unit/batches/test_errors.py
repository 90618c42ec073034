from __future__ import annotations

from graycat.batches.errors import InvalidBatch, OutputUnavailable


def test_every_problem_of_a_spec_is_told_with_its_path() -> None:
    error = InvalidBatch([("name", "is required"), ("", "asks for too much")])
    assert str(error) == "name: is required; asks for too much"
    assert error.body()["error"]["problems"] == [
        {"path": "name", "message": "is required"},
        {"path": "", "message": "asks for too much"},
    ]


def test_why_an_output_cannot_be_used_is_kept_apart() -> None:
    assert OutputUnavailable("there is no space left").reason == "there is no space left"
