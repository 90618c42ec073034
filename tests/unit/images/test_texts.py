from __future__ import annotations

from typing import Any

from graycat.images.texts import MAX_PATH_CHARS, walk_texts


def test_every_text_is_found_with_its_path() -> None:
    value = {"prompt": "a", "x": [1, "b", {"y": ["c"]}], "n": None}
    assert sorted(walk_texts(value)) == [
        ("n", "n"),
        ("prompt", "a"),
        ("prompt", "prompt"),
        ("x", "x"),
        ("x[1]", "b"),
        ("x[2].y", "y"),
        ("x[2].y[0]", "c"),
    ]
    assert list(walk_texts("a", "p")) == [("p", "a")]
    assert list(walk_texts(7)) == []


def test_depth_costs_no_recursion_and_paths_are_cut() -> None:
    value: Any = "a"
    for _ in range(5000):
        value = [value]
    ((path, text),) = walk_texts(value, "x")
    assert (text, len(path)) == ("a", MAX_PATH_CHARS)
