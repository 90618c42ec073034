"""Fields of settings: each carries its own rule, so that a new setting is one line in its group.

Every function here returns a dataclass field. ``name`` is the setting's environment variable; without one it is
``GRAYCAT_`` and the field's name in capitals.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import Field, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any
from urllib.parse import quote, unquote, urlsplit

#: A shorter key of the webhooks' secrets, of the engines or of a dashboard can be guessed.
MIN_KEY_CHARS = 16
#: A caller that guesses this key can make API tokens, and can try guesses on a machine of its own.
MIN_TOKEN_KEY_CHARS = 32

#: Returns what is wrong with a value, as the end of a sentence that begins with its variable; '' if it is good.
Check = Callable[[Any], str]
#: Returns what in a value is secret.
SecretFinder = Callable[[str], list[str]]


def plain(default: Any, name: str = "", check: Check | None = None) -> Any:
    """Return a field that takes any value of its type, unless ``check`` complains."""
    return _field(default, name, check=check)


def positive(default: float, name: str = "") -> Any:
    """Return a field for a number that means nothing at zero or below."""
    return _field(default, name, check=_check_positive)


def not_negative(default: float, name: str = "") -> Any:
    """Return a field for a number that may be zero, which turns something off."""
    return _field(default, name, check=_check_not_negative)


def up_to(most: int, default: int) -> Any:
    """Return a field for a whole number from 1 to ``most``."""

    def check(value: int) -> str:
        if 1 <= value <= most:
            return ""
        return f"must be from 1 to {most}"

    return _field(default, "", check=check)


def tcp_port(default: int, name: str = "") -> Any:
    """Return a field for a port; no two of them may be the same."""
    return _field(default, name, check=_check_port, is_port=True)


def base_port(last: int, name: str = "") -> Any:
    """Return a field for the first of several ports, up to ``last``; 0, the default, means none."""

    def check(value: int) -> str:
        if 0 <= value < last:
            return ""
        return f"must be a port below {last}, or 0 for none"

    return _field(0, name, check=check)


def optional_port(name: str = "") -> Any:
    """Return a field for a port that no other setting has; 0, the default, means none."""

    def check(value: int) -> str:
        if 0 <= value < 65536:
            return ""
        return "must be a port, 1 to 65535, or 0 for none"

    return _field(0, name, check=check, is_port=True)


def choice(default: str, allowed: Sequence[str], name: str = "") -> Any:
    """Return a field for one of several words, in capitals or not."""

    def check(value: str) -> str:
        if value.upper() in allowed:
            return ""
        return f"must be one of {', '.join(allowed)}"

    return _field(default, name, check=check)


def addresses(default: str, name: str = "") -> Any:
    """Return a field for IP addresses and networks (``10.0.0.0/8``), parted by commas."""

    def check(value: str) -> str:
        try:
            networks(value)
        except ValueError as error:
            return f"must be addresses or networks, parted by commas: {error}"
        return ""

    return _field(default, name, check=check)


def networks(text: str) -> list[IPv4Network | IPv6Network]:
    """Return the networks in such a field. Raises ValueError."""
    return [ip_network(item.strip()) for item in text.split(",") if item.strip()]


def secret(name: str = "", min_chars: int = 0) -> Any:
    """Return a field whose whole value is a secret; empty is allowed."""

    def check(value: str) -> str:
        if 0 < len(value) < min_chars:
            return f"must have {min_chars} characters at least"
        return ""

    return _field("", name, check=check, find_secrets=lambda value: [value])


def password(name: str = "") -> Any:
    """Return a field for a password, which also stands in addresses, with its special characters quoted."""
    return _field("", name, find_secrets=lambda value: [value, quote(value, safe="")])


def url(name: str = "") -> Any:
    """Return a field for an address, which may hold a password."""
    return _field("", name, find_secrets=url_passwords)


def secret_url(name: str = "") -> Any:
    """Return a field for an address that is a secret as a whole, and may hold a password."""
    return _field("", name, find_secrets=lambda value: [value, *url_passwords(value)])


def signed_urls(name: str = "") -> Any:
    """Return a field for addresses, parted by commas or blanks, whose queries may be signatures."""
    return _field("", name, find_secrets=_signed_url_secrets)


def named_urls(name: str = "") -> Any:
    """Return a field for ``name=address`` pairs, parted by commas."""
    return _field("", name, find_secrets=_named_url_secrets)


def named_secrets(name: str = "") -> Any:
    """Return a field for ``name:secret`` pairs or bare secrets, parted by commas."""
    return _field("", name, find_secrets=_named_secrets)


def variable_of(setting: Field[Any]) -> str:
    """Return the environment variable of a field."""
    return str(setting.metadata.get("name") or f"GRAYCAT_{setting.name.upper()}")


def complaint(setting: Field[Any], value: Any) -> str:
    """Return what is wrong with a field's value, as a sentence; '' if it is good."""
    check: Check | None = setting.metadata.get("check")
    if check is None:
        return ""
    wrong = check(value)
    if not wrong:
        return ""
    return f"{variable_of(setting)} {wrong}"


def is_port(setting: Field[Any]) -> bool:
    """Return whether a field is a port."""
    return bool(setting.metadata.get("is_port"))


def is_secret(setting: Field[Any]) -> bool:
    """Return whether a field's value is or may hold a secret."""
    return "find_secrets" in setting.metadata


def secrets_in(setting: Field[Any], value: Any) -> list[str]:
    """Return the secrets in a field's value."""
    if not is_secret(setting):
        return []
    find_secrets: SecretFinder = setting.metadata["find_secrets"]
    return [text for text in find_secrets(value) if text]


def url_passwords(address: str) -> list[str]:
    """Return the password of an address as it stands there, and as the server takes it."""
    text = urlsplit(address).password or ""
    return [text, unquote(text)]


def _field(default: Any, name: str, **rules: Any) -> Any:
    metadata = {**rules, "name": name}
    # What may hold a secret is left out of the representation, which may come into a log or a traceback.
    return field(default=default, repr="find_secrets" not in rules, metadata=metadata)


def _check_positive(value: float) -> str:
    if 0 < value < math.inf:
        return ""
    return "must be a number above zero"


def _check_not_negative(value: float) -> str:
    if 0 <= value < math.inf:
        return ""
    return "must be a number of zero or more"


def _check_port(value: int) -> str:
    if 0 < value < 65536:
        return ""
    return "must be a port, 1 to 65535"


def _signed_url_secrets(text: str) -> list[str]:
    found = []
    for address in text.replace(",", " ").split():
        found += url_passwords(address)
        query = urlsplit(address).query
        # A shorter query cannot be a signature.
        if len(query) >= MIN_KEY_CHARS:
            found.append(query)
    return found


def _named_url_secrets(text: str) -> list[str]:
    found = []
    for item in text.split(","):
        found += url_passwords(item.partition("=")[2])
    return found


def _named_secrets(text: str) -> list[str]:
    found = []
    for item in text.split(","):
        bare = item.strip()
        found.append(bare.partition(":")[2] or bare)
    return found
