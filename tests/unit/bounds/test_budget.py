from __future__ import annotations

import pytest

from graycat.bounds.budget import Budget, name_place
from graycat.errors import GrammarTooLarge, RequestError, TooComplex
from graycat.settings import Settings


def test_a_place_is_named_as_callers_write_it() -> None:
    assert name_place(None) == "the body"
    assert name_place((None, "stop")) == "stop"
    assert name_place((((None, "tools"), 3), "x" * 100)) == "tools[3]." + "x" * 60


def test_a_refusal_names_place_count_limit_and_setting() -> None:
    budget = Budget(Settings(max_tools=2))
    budget.check(2, "max_tools", "tools", (None, "tools"))
    with pytest.raises(TooComplex) as caught:
        budget.check(3, "max_tools", "tools", (None, "tools"))
    assert str(caught.value) == "tools has 3 tools; this server takes 2 (GRAYCAT_MAX_TOOLS)"


def test_what_is_too_long_is_413() -> None:
    with pytest.raises(GrammarTooLarge, match="GRAYCAT_MAX_SCHEMA_BYTES") as caught:
        Budget(Settings(max_schema_bytes=10)).check_bytes(11, "max_schema_bytes", None)
    assert (caught.value.status, caught.value.type) == (413, "grammar_too_large")


def test_a_range_ends_after_it_begins() -> None:
    budget = Budget(Settings())
    budget.check_range(2, 2, None)
    budget.check_range(2, None, None)
    # The numbers alone; no grammar is made of them.
    with pytest.raises(RequestError, match="at least 3 and at most 2") as caught:
        budget.check_range(3, 2, None)
    assert caught.value.type == "invalid_request_error"


def test_rules_nodes_and_repetitions_of_a_request_count_together() -> None:
    budget = Budget(Settings(max_grammar_rules=2, max_schema_nodes=10, max_grammar_size=10))
    budget.add_rule(None)
    budget.add_rule(None)
    budget.add_nodes(10, None)
    budget.add_repetition(10, None)
    with pytest.raises(TooComplex, match="GRAYCAT_MAX_GRAMMAR_RULES"):
        budget.add_rule(None)
    with pytest.raises(TooComplex, match="GRAYCAT_MAX_SCHEMA_NODES"):
        budget.add_nodes(1, None)
    with pytest.raises(TooComplex, match="GRAYCAT_MAX_GRAMMAR_SIZE"):
        budget.add_repetition(1, None)
