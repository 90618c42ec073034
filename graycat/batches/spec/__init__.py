"""A batch as its caller writes it: one document, checked as a whole before anything runs."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import yaml

from graycat.batches.errors import InvalidBatch
from graycat.batches.spec import images as imagespec
from graycat.batches.spec import options as terms
from graycat.batches.spec.images import Ask, Images
from graycat.batches.spec.options import BatchOptions
from graycat.batches.spec.reader import Problems, Reader
from graycat.settings import Settings

#: What a document may hold.
FIELDS = ("name", *imagespec.IMAGE_FIELDS, *terms.TERM_FIELDS)
FORMATS = ("toml", "yaml", "json")


@dataclass(frozen=True, slots=True)
class Spec:
    """A checked document. ``document`` is the document as it was given, which says all of it again."""

    name: str
    images: Images
    terms: BatchOptions
    document: dict[str, Any]

    @property
    def total(self) -> int:
        """Return how many images it asks for."""
        return self.images.total

    @property
    def ask(self) -> Ask | None:
        """Return what a text engine is asked for first; None where every prompt is there."""
        return self.images.ask

    @property
    def digest(self) -> str:
        """Return a name for the images it asks for, wherever they go and whenever they are made."""
        return digest_of(self.document, imagespec.IMAGE_FIELDS)


def parse(document: Mapping[str, Any], settings: Settings, most_pixels: int | None = None) -> Spec:
    """Return the spec that a document is. Raises InvalidBatch, which names every problem with the path of its field.

    ``most_pixels``: what the caller's API token may ask for in one image. Decodes the document's images: keep it off
    a thread that others wait for.
    """
    if not isinstance(document, Mapping):
        raise InvalidBatch([("", "the spec must be an object")])
    problems = Problems()
    # As JSON has it: what cannot be kept so is found here, and numbers stay what they are.
    kept = problems.attempt("", lambda: json.loads(json.dumps(document, allow_nan=False, default=_refuse)))
    reader = Reader(kept or {}, "", problems)
    name = reader.text("name", most=100)
    if not name and (kept or {}).get("name") is None:
        problems.note("name", "is required")
    read_terms = terms.read(reader, settings)
    read_images = imagespec.read(reader, settings, most_pixels)
    reader.end(FIELDS)
    if problems.found or read_images is None:
        raise InvalidBatch(problems.found)
    return Spec(name, read_images, read_terms, kept or {})


def load(text: str, format: str) -> dict[str, Any]:
    """Return the document that a text in TOML, YAML or JSON is. Raises InvalidBatch."""
    try:
        if format == "toml":
            return tomllib.loads(text)
        found = yaml.safe_load(text) if format == "yaml" else json.loads(text)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise InvalidBatch([("", f"the spec is not {format.upper()}: {error}")]) from None
    if not isinstance(found, dict):
        raise InvalidBatch([("", "the spec must be an object, its fields at the top")])
    return found


def digest_of(document: Mapping[str, Any], fields: tuple[str, ...] = FIELDS) -> str:
    """Return a name for some fields of a document."""
    told = {name: document[name] for name in fields if document.get(name) is not None}
    return sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _refuse(value: Any) -> Any:
    raise ValueError(f"a {type(value).__name__} cannot be in a spec; write it as a text")
