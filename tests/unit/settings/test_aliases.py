from __future__ import annotations

import pytest

from graycat.errors import SettingsError
from graycat.settings import Settings
from graycat.settings.aliases import check_aliases, parse_aliases


def test_an_alias_stands_for_one_model_whatever_blanks_are_around_it() -> None:
    assert parse_aliases("") == {}
    assert parse_aliases(" gpt-4o-mini = gemma , , claude-3=gemma,") == {"gpt-4o-mini": "gemma", "claude-3": "gemma"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gpt-4o", "write ALIAS=MODEL"),
        ("gpt-4o=", "write ALIAS=MODEL"),
        ("=gemma", "write ALIAS=MODEL"),
        ("a=b,a=c", "two models"),
        ("a=a", "alias of itself"),
        ("a=b,b=c", "name the model itself, 'c'"),
        ("a=b\x07", "unprintable"),
        ("a=" + "b" * 201, "over 200 characters"),
        (",".join(f"a{n}=m" for n in range(101)), "more than 100"),
    ],
)
def test_bad_aliases_are_refused_at_the_start_with_what_to_do(text: str, said: str) -> None:
    assert said in check_aliases(text)
    with pytest.raises(SettingsError, match="GRAYCAT_MODEL_ALIASES"):
        Settings(model_aliases=text)


def test_what_becomes_of_unknown_models_is_one_of_two_words() -> None:
    assert not Settings().serves_unknown_models
    assert Settings(unknown_model="serve").serves_unknown_models
    with pytest.raises(SettingsError, match="GRAYCAT_UNKNOWN_MODEL must be one of REFUSE, SERVE"):
        Settings(unknown_model="default")
