from __future__ import annotations

import pytest

from graycat.batches.spec.reader import FieldReader, Problems


@pytest.fixture
def problems() -> Problems:
    return Problems()


@pytest.mark.parametrize(
    ("value", "seconds"), [(90, 90.0), (0.5, 0.5), ("90s", 90.0), ("30m", 1800.0), ("6h", 21600.0), ("2 d", 172800.0)]
)
def test_a_duration(problems: Problems, value: object, seconds: float) -> None:
    assert FieldReader({"deadline": value}, "", problems).read_duration("deadline", 1e9) == seconds
    assert problems.found == []


@pytest.mark.parametrize("value", [0, -1, "six", "6 weeks", True, [], float("nan"), 1e10])
def test_an_invalid_duration_is_a_problem(problems: Problems, value: object) -> None:
    assert FieldReader({"deadline": value}, "a", problems).read_duration("deadline", 1e9) is None
    assert problems.found[0][0] == "a.deadline"


@pytest.mark.parametrize("value", ["", "  ", "a\nb", 3, "x" * 300, "\x1b[31m"])
def test_an_invalid_text_is_a_problem(problems: Problems, value: object) -> None:
    assert FieldReader({"name": value}, "", problems).read_text("name", "usual") == "usual"
    assert len(problems.found) == 1


def test_a_multiline_text_may_have_lines(problems: Problems) -> None:
    assert FieldReader({"ask": "a\nb"}, "", problems).read_text("ask", multiline=True) == "a\nb"


@pytest.mark.parametrize("value", [0, 11, "3", 2.5, True])
def test_an_invalid_count_is_a_problem(problems: Problems, value: object) -> None:
    assert FieldReader({"count": value}, "", problems).read_count("count", 1, 10, 5) == 5
    assert problems.found == [("count", "must be a whole number from 1 to 10")]


def test_unknown_fields_are_problems_with_their_path(problems: Problems) -> None:
    reader = FieldReader({"part": {"typo": 1}, "other": "text"}, "", problems)
    part = reader.read_object("part")
    assert part is not None
    part.refuse_unknown(("known",))
    wrapped = reader.read_object("other", text_field="ask")
    assert wrapped is not None
    assert wrapped.read_text("ask") == "text"
    assert [path for path, _ in problems.found] == ["part.typo"]


def test_a_part_that_is_not_an_object_is_a_problem(problems: Problems) -> None:
    assert FieldReader({"part": 3}, "", problems).read_object("part", text_field="ask") is None
    assert problems.found == [("part", "must be an object")]


def test_a_problem_is_added_once(problems: Problems) -> None:
    def failing() -> None:
        raise ValueError("no")

    for _ in range(2):
        assert problems.attempt("x", failing) is None
    assert problems.found == [("x", "no")]
