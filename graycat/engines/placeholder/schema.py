"""The request bodies: fields with their defaults in schema order, and the coercion that pydantic 1 does.

What pydantic accepts, converts and complains of is part of the wire: clients send ``"12"`` for 12 and read the ``loc``
of a 422.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from email.message import Message
from typing import Any, NamedTuple

TRUE = {1, "1", "on", "t", "true", "y", "yes"}
FALSE = {0, "0", "off", "f", "false", "n", "no"}

Coerce = Callable[[Any], Any]


class Problem(NamedTuple):
    """One item of a 422. ``loc``: where, from the body's root; ``ctx``: what the message speaks of, or None."""

    loc: tuple[str | int, ...]
    msg: str
    type: str
    ctx: dict[str, Any] | None = None

    def below(self, *loc: str | int) -> Problem:
        """Return it as seen from further up."""
        return self._replace(loc=(*loc, *self.loc))

    def item(self) -> dict[str, Any]:
        """Return it as it goes over the wire."""
        item = {"loc": list(self.loc), "msg": self.msg, "type": self.type}
        return item if self.ctx is None else item | {"ctx": self.ctx}


class Invalid(Exception):
    """Raised when a value or a body does not fit; holds every problem, not just the first."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__(f"{len(problems)} validation errors")
        self.problems = problems


class UnreadableBody(Exception):
    """Raised when a body is no text at all."""


def wrong(msg: str, kind: str, **ctx: Any) -> Invalid:
    """Return the error of a single value."""
    return Invalid(Problem((), msg, kind, ctx or None))


def integer(value: Any) -> int:
    """Return an int: a float is cut, a string is read."""
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        raise wrong("value is not a valid integer", "type_error.integer") from None


def number(value: Any) -> float:
    """Return a float; a string is read."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise wrong("value is not a valid float", "type_error.float") from None


def text(value: Any) -> str:
    """Return a string; a number is printed."""
    if isinstance(value, str | int | float):
        return str(value)
    raise wrong("str type expected", "type_error.str")


def boolean(value: Any) -> bool:
    """Return a bool: numbers 0 and 1 and the usual words are read."""
    try:
        known = value.lower() if isinstance(value, str) else value
        if known in TRUE:
            return True
        if known in FALSE:
            return False
    except TypeError:
        pass  # a list or an object, which no set can hold
    raise wrong("value could not be parsed to a boolean", "type_error.bool")


def array(value: Any) -> list[Any]:
    """Return a list, its items untouched."""
    if isinstance(value, list):
        return value
    raise wrong("value is not a valid list", "type_error.list")


def mapping(value: Any) -> dict[Any, Any]:
    """Return a dict; pairs make one too."""
    try:
        return dict(value)
    except (TypeError, ValueError):
        raise wrong("value is not a valid dict", "type_error.dict") from None


def list_of(coerce: Coerce) -> Coerce:
    """Return the coercion of a list whose items all fit."""

    def coerce_items(value: Any) -> list[Any]:
        items: list[Any] = []
        problems: list[Problem] = []
        for index, item in enumerate(array(value)):
            try:
                if item is None:
                    raise wrong("none is not an allowed value", "type_error.none.not_allowed")
                items.append(coerce(item))
            except Invalid as error:
                problems += [problem.below(index) for problem in error.problems]
        if problems:
            raise Invalid(*problems)
        return items

    return coerce_items


def within(coerce: Coerce, ge: float | None = None, gt: float | None = None, le: float | None = None) -> Coerce:
    """Return the coercion of a number with limits."""

    def coerce_within(value: Any) -> Any:
        coerced = coerce(value)
        if gt is not None and not coerced > gt:
            raise wrong(f"ensure this value is greater than {gt}", "value_error.number.not_gt", limit_value=gt)
        if ge is not None and not coerced >= ge:
            msg = f"ensure this value is greater than or equal to {ge}"
            raise wrong(msg, "value_error.number.not_ge", limit_value=ge)
        if le is not None and not coerced <= le:
            msg = f"ensure this value is less than or equal to {le}"
            raise wrong(msg, "value_error.number.not_le", limit_value=le)
        return coerced

    return coerce_within


def one_of(*permitted: Any) -> Coerce:
    """Return the coercion of a value that must be among ``permitted``."""

    def coerce_choice(value: Any) -> Any:
        if value in permitted:
            return permitted[permitted.index(value)]
        msg = f"unexpected value; permitted: {', '.join(map(repr, permitted))}"
        raise wrong(msg, "value_error.const", given=value, permitted=permitted)

    return coerce_choice


@dataclass(frozen=True)
class Field:
    """One field of a body."""

    name: str
    coerce: Coerce
    default: Any = None
    nullable: bool = True
    required: bool = False

    def read(self, body: dict[Any, Any]) -> Any:
        """Return the body's value of it. Raises Invalid, whose problems begin with the field's name."""
        if self.name not in body:
            if self.required:
                raise Invalid(Problem((self.name,), "field required", "value_error.missing"))
            # A copy: what one request's fields become is no business of the next one's.
            return self.default.copy() if isinstance(self.default, list | dict) else self.default
        value = body[self.name]
        if value is None:
            if self.nullable:
                return None
            raise Invalid(Problem((self.name,), "none is not an allowed value", "type_error.none.not_allowed"))
        try:
            return self.coerce(value)
        except Invalid as error:
            raise Invalid(*(problem.below(self.name) for problem in error.problems)) from None


def model(fields: Iterable[Field]) -> Coerce:
    """Return the coercion of an object with these fields; unknown ones are dropped."""

    def coerce_model(value: Any) -> dict[str, Any]:
        body, values = mapping(value), {}
        problems: list[Problem] = []
        for field in fields:
            try:
                values[field.name] = field.read(body)
            except Invalid as error:
                problems += error.problems
        if problems:
            raise Invalid(*problems)
        return values

    return coerce_model


def parse(raw: bytes, content_type: str) -> Any:
    """Return the JSON of a body; bytes as they are where the type is no JSON, None where there are none.

    Raises Invalid for broken JSON, UnreadableBody for what is no text.
    """
    if not raw:
        return None
    header = Message()
    header["Content-Type"] = content_type or "application/json"
    subtype = header.get_content_subtype()
    if header.get_content_maintype() != "application" or not (subtype == "json" or subtype.endswith("+json")):
        return raw
    try:
        return json.loads(raw)
    except json.JSONDecodeError as error:
        ctx = {"msg": error.msg, "doc": error.doc, "pos": error.pos, "lineno": error.lineno, "colno": error.colno}
        raise Invalid(Problem(("body", error.pos), str(error), "value_error.jsondecode", ctx)) from None
    except (UnicodeDecodeError, RecursionError):
        raise UnreadableBody from None


def validated(body: Any, coerce: Coerce) -> Any:
    """Return a parsed body coerced. Raises Invalid, with ``body`` in front of each place."""
    if body is None:
        raise Invalid(Problem(("body",), "field required", "value_error.missing"))
    try:
        return coerce(body)
    except Invalid as error:
        raise Invalid(*(problem.below("body") for problem in error.problems)) from None


def with_defaults(fields: Sequence[Field], **defaults: Any) -> tuple[Field, ...]:
    """Return the fields with other defaults."""
    return tuple(Field(f.name, f.coerce, defaults.get(f.name, f.default), f.nullable, f.required) for f in fields)
