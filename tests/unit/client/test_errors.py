from __future__ import annotations

from pathlib import Path

import pytest

from graycat.client.error_parsing import BY_TYPE, MODULES, build_error
from graycat.client.errors import ApiError
from graycat.errors import GraycatError
from tests.support.errortree import all_errors

ROOT = Path(__file__).resolve().parents[3]

#: Server errors whose class has another name in the client, where callers import it by the old one.
OTHER_NAMES = {"EngineProtocolError": "EngineNonsense"}

#: Errors without a ``type`` of their own: they take their base's, or never leave the server.
WITHOUT_TYPE = {error for error in all_errors() if "type" not in vars(error)}
WITH_TYPE = sorted(all_errors() - WITHOUT_TYPE - {GraycatError}, key=str)


@pytest.mark.parametrize("server_error", WITH_TYPE, ids=lambda error: error.type)
def test_every_error_of_the_server_has_a_class(server_error: type[GraycatError]) -> None:
    client_error = BY_TYPE.get(server_error.type)
    assert client_error is not None, f"graycat.client.errors has no class for the type {server_error.type}"
    expected = OTHER_NAMES.get(server_error.__name__, server_error.__name__)
    assert client_error.__name__ == expected


@pytest.mark.parametrize("server_error", sorted(all_errors(), key=str))
def test_an_error_s_class_is_below_the_base_of_its_status(server_error: type[GraycatError]) -> None:
    base = type(build_error(server_error.status, None))
    assert issubclass(BY_TYPE[server_error.type], base)


def test_the_document_lists_every_class() -> None:
    text = (ROOT / "docs" / "client.md").read_text()
    assert [cls.__name__ for cls in BY_TYPE.values() if f"`{cls.__name__}`" not in text] == []


def test_every_class_has_a_type_of_its_own() -> None:
    values = {value for module in MODULES for value in vars(module).values() if isinstance(value, type)}
    classes = [value for value in values if issubclass(value, ApiError)]
    assert len(BY_TYPE) == len([cls for cls in classes if cls.type])
