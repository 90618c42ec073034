from __future__ import annotations

import time
from typing import Any

import pytest

from graycat.bounds.budget import Budget
from graycat.bounds.grammar import check_grammar, check_pattern
from graycat.errors import GrammarTooLarge, GraycatError, RequestError, TooComplex
from graycat.settings import Settings

#: Small limits: a text just above them would do no engine any harm.
SMALL = {
    "max_grammar_bytes": 200,
    "max_grammar_rules": 3,
    "max_grammar_alternatives": 4,
    "max_repetition": 10,
    "max_grammar_size": 30,
    "max_json_depth": 3,
}
#: llama.cpp's own example, shortened: what real grammars look like.
JSON_GRAMMAR = r"""
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws   # any of them
object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
ws     ::= | " " | "\n" [ \t]{0,20}
"""
REAL_PATTERNS = [
    "",
    "^$",
    r"^\(?\d{3}\)?[-. ]?\d{3}[-. ]?\d{4}$",
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?)(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    r"^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
    r"^(?!-)[A-Za-z0-9-]{1,63}(?<!-)$",
    r"^[^\s@]+@[^\s@]+\.[^\s@]+$",
    r"^#([A-Fa-f0-9]{6}|[A-Fa-f0-9]{3})$",
    r"^\{[a-z]+\}$",
    r"^.{1,2000}$",
    r"^(25[0-5]|2[0-4]\d|1?\d?\d)(\.(25[0-5]|2[0-4]\d|1?\d?\d)){3}$",
    r"[*+?{}()]",
    r"^a+?b*?$",
]


def grammar(text: str, **limits: Any) -> None:
    check_grammar(text, Budget(Settings(**limits)), (None, "grammar"))


def pattern(text: str, **limits: Any) -> None:
    check_pattern(text, Budget(Settings(**limits)), (None, "pattern"))


def test_real_grammars_pass() -> None:
    grammar(JSON_GRAMMAR)
    grammar(JSON_GRAMMAR.strip() * 50)
    grammar('%llguidance {}\nstart: %json {"a": {"b": 1}}\nNAME: /[a-z]{1,20}/ "x"\n')


@pytest.mark.parametrize("text", REAL_PATTERNS)
def test_real_patterns_pass(text: str) -> None:
    pattern(text)


@pytest.mark.parametrize(
    ("within", "above", "setting"),
    [
        ('root ::= "a"' + " " * 187, 'root ::= "a"' + " " * 189, "max_grammar_bytes"),
        ("a ::= b\nb ::= c\nc ::= [x]", "a ::= b\nb ::= c\nc ::= d\nd ::= [x]", "max_grammar_rules"),
        ('a ::= "1" | "2" | "3" | "4"', 'a ::= "1" | "2" | "3" | "4" | "5"', "max_grammar_alternatives"),
        ('a ::= "|||||" [|||||]', 'a ::= ("1" | "2" | "3" | "4" | "5")', "max_grammar_alternatives"),
        ("a ::= [x]{10}", "a ::= [x]{11}", "max_repetition"),
        ("a ::= [x]{0,10}", "a ::= [x]{0,11}", "max_repetition"),
        ("a ::= [x]{10,}", "a ::= [x]{11,}", "max_repetition"),
        ("a ::= ([x]{2} [y]{3}){3}", "a ::= ([x]{2} [y]{4}){3}", "max_repetition"),
        ("a ::= (([x]{2}) b){5}", "a ::= (([x]{2}) b){6}", "max_repetition"),
        ("a ::= [x]{2}{5}", "a ::= [x]{3}{5}", "max_repetition"),
        ('a ::= "abc"{10}', 'a ::= "abcd"{10}', "max_grammar_size"),
        ("a ::= [x]{10} [x]{10}\nb ::= [x]{10}", "a ::= [x]{10} [x]{10}\nb ::= [x]{10} [x]{1}", "max_grammar_size"),
        ("a ::= (((b)))", "a ::= ((((b))))", "max_json_depth"),
        ('a ::= "(((((" b', 'a ::= "" (((("b"))))', "max_json_depth"),
    ],
)
def test_each_limit_of_a_grammar(within: str, above: str, setting: str) -> None:
    grammar(within, **SMALL)
    with pytest.raises((TooComplex, GrammarTooLarge), match=f"^grammar has .*GRAYCAT_{setting.upper()}"):
        grammar(above, **SMALL)


@pytest.mark.parametrize(
    ("within", "above", "setting"),
    [
        ("^a|b|c|d$", "^a|b|c|d|e$", "max_grammar_alternatives"),
        ("^(a{2}b){5}$", "^(a{2}b){6}$", "max_repetition"),
        ("^(?:a{2}b){5}$", "^(?:a{2}b){6}$", "max_repetition"),
        (r"^a\{11}$", "^a{11}$", "max_repetition"),
        ("^[{11}]$", "^[x]{11}$", "max_repetition"),
        ("^a{10}b{10}c{10}$", "^a{10}b{10}c{10}d{2}$", "max_grammar_size"),
        ("^(((a)))$", "^((((a))))$", "max_json_depth"),
    ],
)
def test_each_limit_of_a_pattern(within: str, above: str, setting: str) -> None:
    pattern(within, **SMALL)
    with pytest.raises(TooComplex, match=f"^pattern has .*GRAYCAT_{setting.upper()}"):
        pattern(above, **SMALL)


def test_a_count_of_many_digits_is_above_every_limit() -> None:
    with pytest.raises(TooComplex, match="GRAYCAT_MAX_REPETITION"):
        grammar("a ::= [x]{" + "1" * 5000 + "}")


def test_a_repetition_needs_something_to_repeat() -> None:
    # Python's own regular expressions refuse the same. No engine is asked.
    with pytest.raises(RequestError, match="pattern repeats nothing") as caught:
        pattern("a|+")
    assert caught.value.type == "invalid_request_error"


@pytest.mark.parametrize(
    "text", ['a ::= "open', "a ::= [open", "a ::= )))", "a ::= {", "{ }", "\\", "::=", "\x00", "é ::= ü"]
)
def test_what_no_engine_can_read_is_left_to_the_engine(text: str) -> None:
    grammar(text)


@pytest.mark.parametrize("part", [" ", "(", "[", '"', "{", "{ ", "{1", "{1,", "\\", "#", "\n", "a", "|", "::=", "?"])
def test_reading_takes_time_in_proportion_to_the_length(part: str) -> None:
    begun = time.process_time()
    for read in (grammar, pattern):
        try:
            read(part * (100_000 // len(part)))
        except GraycatError:
            continue
    # 0.1 s on a slow machine; minutes, if a part were read again and again.
    assert time.process_time() - begun < 5
