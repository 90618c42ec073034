"""The spec of a batch: the document that its caller writes, checked as a whole before anything runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from graycat import params
from graycat.batches.errors import InvalidBatch
from graycat.batches.spec import filenames
from graycat.batches.spec.images import IMAGE_FIELDS, Body, Images, PromptRequest, read_images
from graycat.batches.spec.options import OPTION_FIELDS, BatchOptions, read_options
from graycat.batches.spec.reader import FieldReader, Problems
from graycat.bounds import documents
from graycat.images.fields import GENERATION_FIELDS
from graycat.images.webui_requests import split_names
from graycat.settings import Settings

#: The fields of a document.
FIELDS = ("name", *IMAGE_FIELDS, *OPTION_FIELDS)
FORMATS = documents.FORMATS
#: Fields of an item that somebody has written beside the items.
_MEANT = {field: f"defaults.{field}" for field in GENERATION_FIELDS} | {"prompt": "items"}
#: Fields of those who want a batch of an operator's workflow.
_OTHER_KINDS = ("kind", "workflow")


@dataclass(frozen=True, slots=True)
class Spec:
    """A checked document. ``document`` is the document as its caller wrote it.

    ``own_names``: fields of its items that are there for the names of files, and that no engine gets.
    """

    name: str
    images: Images
    options: BatchOptions
    document: dict[str, Any]
    own_names: frozenset[str] = frozenset()

    def to_request(self, body: Body) -> Body:
        """Return a body as engines get it: without fields of the caller's own, which some engines refuse."""
        return {name: value for name, value in body.items() if name not in self.own_names}

    @property
    def total(self) -> int:
        """Return how many images it asks for."""
        return self.images.total

    @property
    def prompt_request(self) -> PromptRequest | None:
        """Return what a text engine must write first; None if the document has every prompt."""
        return self.images.prompt_request

    @property
    def digest(self) -> str:
        """Return a digest of the images that it asks for, whatever its options are."""
        return digest_document(self.document, IMAGE_FIELDS)


def parse(
    document: Mapping[str, Any], settings: Settings, token_max_pixels: int | None = None, *, is_accepted: bool = False
) -> Spec:
    """Return the spec in a document. Raises InvalidBatch, which names every problem with the path of its field.

    ``token_max_pixels``: how many pixels the caller's API token may ask for in one image. ``is_accepted``: the document
    was accepted before, maybe by an earlier release, which knew other names: those of its images are not checked.
    Decodes the document's images, which takes time: do not call it in a thread that serves others.
    """
    if not isinstance(document, Mapping):
        raise InvalidBatch([("", "the spec must be an object")])
    problems = Problems()
    copy = problems.attempt("", lambda: _copy_as_json(document)) or {}

    problems.attempt("", lambda: _check_texts(copy, problems, is_accepted))
    if problems.found:
        raise InvalidBatch(problems.found)

    reader = FieldReader(copy, "", problems)
    name = reader.read_text("name", max_chars=100)
    if not name and copy.get("name") is None:
        problems.add("name", "is required")
    options = read_options(reader, settings)
    own_names = filenames.own_names(options.pattern)
    images = read_images(reader, settings, token_max_pixels, None if is_accepted else own_names)
    _refuse_other_kinds(reader)
    reader.refuse_unknown(FIELDS, _MEANT)
    if images is not None and not is_accepted:
        for problem in filenames.find_unused(own_names, images.bodies):
            problems.add("output.pattern", problem)
    if problems.found or images is None:
        raise InvalidBatch(problems.found)
    return Spec(name, images, options, copy, own_names - split_names(settings.sd_fields))


def _refuse_other_kinds(reader: FieldReader) -> None:
    """Say of a spec that asks for something else than images of a prompt what does that."""
    for name in _OTHER_KINDS:
        if reader.take(name) is not None:
            reader.problems.add(name, "batches make images by txt2img and img2img; a workflow's task is POST /tasks")


def load(text: str, format: str) -> dict[str, Any]:
    """Return the document in a text of TOML, YAML or JSON. Raises InvalidBatch."""
    try:
        document = documents.parse(text, format)
    except ValueError as error:
        raise InvalidBatch([("", f"the spec is not valid {format.upper()}: {error}")]) from None
    if not isinstance(document, dict):
        raise InvalidBatch([("", "the spec must be an object, with its fields at the top level")])
    return document


def digest_document(document: Mapping[str, Any], fields: tuple[str, ...] = FIELDS) -> str:
    """Return a digest of some fields of a document. A field that is None counts as absent."""
    present = {name: document[name] for name in fields if document.get(name) is not None}
    return sha256(json.dumps(present, sort_keys=True).encode()).hexdigest()


def _copy_as_json(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document as JSON would hold it. Raises ValueError for values that JSON cannot hold."""
    copy: dict[str, Any] = json.loads(json.dumps(document, allow_nan=False, default=_refuse_value))
    return copy


def _check_texts(copy: dict[str, Any], problems: Problems, is_accepted: bool) -> None:
    """Add a problem for each text that no file and no engine can have."""
    for path, content in params.find_unusable_texts(copy):
        # An earlier release took U+0000, and what was accepted goes on.
        if not is_accepted or content != params.NUL:
            problems.add(path, f"holds {content}, which no file and no engine can have")


def _refuse_value(value: Any) -> Any:
    raise ValueError(f"a {type(value).__name__} cannot be in a spec; write it as a text")
