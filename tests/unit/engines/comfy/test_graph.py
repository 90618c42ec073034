from __future__ import annotations

import pytest

from graycat.engines.comfy import graph


@pytest.mark.parametrize("name", ["txt2img", "img2img", "inpaint"])
def test_the_templates_are_whole(name: str) -> None:
    workflow = graph.load_template(name)
    for node in workflow.values():
        for value in node["inputs"].values():
            assert not graph.is_link(value) or value[0] in workflow
    assert "sampler" in workflow
    assert "saved" in workflow


def test_only_what_depends_on_a_node_is_multiplied() -> None:
    parts = graph.multiply(graph.load_template("txt2img"), "sampler", 2)
    assert set(parts[0]) & set(parts[1]) == {"checkpoint", "positive", "negative", "latent"}
    assert parts[1]["saved-1"]["inputs"]["images"] == ["decoded-1", 0]
    assert parts[1]["decoded-1"]["inputs"]["vae"] == ["checkpoint", 2]


def test_a_link_is_moved_and_files_get_names() -> None:
    workflow = graph.load_template("txt2img")
    graph.relink(workflow, ("checkpoint", 1), ("lora", 1), but="negative")
    assert workflow["positive"]["inputs"]["clip"] == ["lora", 1]
    assert workflow["negative"]["inputs"]["clip"] == ["checkpoint", 1]
    named = graph.with_prefix(workflow, "mine")
    assert named["saved"]["inputs"]["filename_prefix"] == "mine"
    assert workflow["saved"]["inputs"]["filename_prefix"] == "graycat"
