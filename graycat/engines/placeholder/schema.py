"""Request bodies: fields with their defaults in schema order, coerced as pydantic 1 does.

What pydantic accepts, converts and refuses is part of the API: clients send ``"12"`` for 12 and read the ``loc`` of a
422.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from email.message import Message
from typing import Any, NamedTuple

TRUE = {1, "1", "on", "t", "true", "y", "yes"}
FALSE = {0, "0", "off", "f", "false", "n", "no"}

#: Returns a value converted to a field's type. Raises Invalid.
Coerce = Callable[[Any], Any]


class Problem(NamedTuple):
    """One item of a 422. ``loc``: the path to the value from the body's root. ``ctx``: values in the message."""

    loc: tuple[str | int, ...]
    msg: str
    type: str
    ctx: dict[str, Any] | None = None

    def prefixed(self, *loc: str | int) -> Problem:
        """Return the problem with a longer path: ``loc`` is put in front."""
        return self._replace(loc=(*loc, *self.loc))

    def to_dict(self) -> dict[str, Any]:
        """Return the problem as the response contains it."""
        item: dict[str, Any] = {"loc": list(self.loc), "msg": self.msg, "type": self.type}
        if self.ctx is not None:
            item["ctx"] = self.ctx
        return item


class Invalid(Exception):
    """Raised if a value or a body is invalid; has all problems, not only the first."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__(f"{len(problems)} validation errors")
        self.problems = problems

    def prefixed(self, *loc: str | int) -> Invalid:
        """Return the error with longer paths: ``loc`` is put in front of each."""
        return Invalid(*[problem.prefixed(*loc) for problem in self.problems])


class UnreadableBody(Exception):
    """Raised if a body is not text."""


def invalid(msg: str, problem_type: str, **ctx: Any) -> Invalid:
    """Return the error of a single value."""
    return Invalid(Problem((), msg, problem_type, ctx or None))


def integer(value: Any) -> int:
    """Return an int: a float is truncated, a string is parsed."""
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        raise invalid("value is not a valid integer", "type_error.integer") from None


def number(value: Any) -> float:
    """Return a float; a string is parsed."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise invalid("value is not a valid float", "type_error.float") from None


def text(value: Any) -> str:
    """Return a string; a number is converted."""
    if isinstance(value, str | int | float):
        return str(value)
    raise invalid("str type expected", "type_error.str")


def boolean(value: Any) -> bool:
    """Return a bool from 0, 1 or one of the usual words."""
    try:
        if isinstance(value, str):
            value = value.lower()
        if value in TRUE:
            return True
        if value in FALSE:
            return False
    except TypeError:
        pass  # a list or a dict cannot be in a set
    raise invalid("value could not be parsed to a boolean", "type_error.bool")


def array(value: Any) -> list[Any]:
    """Return a list; its items are not converted."""
    if isinstance(value, list):
        return value
    raise invalid("value is not a valid list", "type_error.list")


def mapping(value: Any) -> dict[Any, Any]:
    """Return a dict; a list of pairs is converted."""
    try:
        return dict(value)
    except (TypeError, ValueError):
        raise invalid("value is not a valid dict", "type_error.dict") from None


def list_of(coerce: Coerce) -> Coerce:
    """Return a function that coerces all items of a list."""

    def coerce_items(value: Any) -> list[Any]:
        items: list[Any] = []
        problems: list[Problem] = []
        for index, item in enumerate(array(value)):
            try:
                if item is None:
                    raise invalid("none is not an allowed value", "type_error.none.not_allowed")
                items.append(coerce(item))
            except Invalid as error:
                problems += [problem.prefixed(index) for problem in error.problems]
        if problems:
            raise Invalid(*problems)
        return items

    return coerce_items


def within(coerce: Coerce, ge: float | None = None, gt: float | None = None, le: float | None = None) -> Coerce:
    """Return a function that coerces a number and checks its limits."""

    def coerce_within(value: Any) -> Any:
        coerced = coerce(value)
        if gt is not None and not coerced > gt:
            raise invalid(f"ensure this value is greater than {gt}", "value_error.number.not_gt", limit_value=gt)
        if ge is not None and not coerced >= ge:
            msg = f"ensure this value is greater than or equal to {ge}"
            raise invalid(msg, "value_error.number.not_ge", limit_value=ge)
        if le is not None and not coerced <= le:
            msg = f"ensure this value is less than or equal to {le}"
            raise invalid(msg, "value_error.number.not_le", limit_value=le)
        return coerced

    return coerce_within


def one_of(*permitted: Any) -> Coerce:
    """Return a function that accepts only values among ``permitted``."""

    def coerce_choice(value: Any) -> Any:
        if value in permitted:
            return permitted[permitted.index(value)]
        msg = f"unexpected value; permitted: {', '.join(map(repr, permitted))}"
        raise invalid(msg, "value_error.const", given=value, permitted=permitted)

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
        """Return the field's value in a body. Raises Invalid, whose problems' paths begin with the field's name."""
        if self.name not in body:
            if self.required:
                raise Invalid(Problem((self.name,), "field required", "value_error.missing"))
            # A copy: a change of one request's fields must not reach the next request.
            return copy(self.default)
        value = body[self.name]
        if value is None:
            if self.nullable:
                return None
            raise Invalid(Problem((self.name,), "none is not an allowed value", "type_error.none.not_allowed"))
        try:
            return self.coerce(value)
        except Invalid as error:
            raise error.prefixed(self.name) from None


def model(fields: Iterable[Field]) -> Coerce:
    """Return a function that coerces an object with these fields; it drops unknown ones."""

    def coerce_model(value: Any) -> dict[str, Any]:
        body = mapping(value)
        values = {}
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
    """Return the parsed JSON of a body; its raw bytes if its content type is not JSON, None if it is empty.

    Raises Invalid for invalid JSON, UnreadableBody for a body that is not text.
    """
    if not raw:
        return None
    header = Message()
    header["Content-Type"] = content_type or "application/json"
    subtype = header.get_content_subtype()
    is_json = subtype == "json" or subtype.endswith("+json")
    if header.get_content_maintype() != "application" or not is_json:
        return raw
    try:
        return json.loads(raw)
    except json.JSONDecodeError as error:
        ctx = {"msg": error.msg, "doc": error.doc, "pos": error.pos, "lineno": error.lineno, "colno": error.colno}
        raise Invalid(Problem(("body", error.pos), str(error), "value_error.jsondecode", ctx)) from None
    except (UnicodeDecodeError, RecursionError):
        raise UnreadableBody from None


def validate(body: Any, coerce: Coerce) -> Any:
    """Return a parsed body coerced. Raises Invalid, whose problems' paths begin with ``body``."""
    if body is None:
        raise Invalid(Problem(("body",), "field required", "value_error.missing"))
    try:
        return coerce(body)
    except Invalid as error:
        raise error.prefixed("body") from None


def replace_defaults(fields: Sequence[Field], **defaults: Any) -> tuple[Field, ...]:
    """Return the fields with other defaults."""
    return tuple(replace(field, default=defaults.get(field.name, field.default)) for field in fields)
