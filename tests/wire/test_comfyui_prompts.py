"""What ComfyUI says to prompts: sections 2 and 3 of its facts, held by the double and by a real server."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from tests.support.comfyui_wire import PATIENCE_S, ComfyUI, node, stepping, still, txt2img
from tests.support.processes import eventually


def refused(server: ComfyUI, prompt: Any, **fields: Any) -> tuple[str, Any]:
    """Send a prompt that is refused; return the type of the error and the nodes' errors."""
    response = server.send(prompt, **fields)
    body = response.json()
    assert response.status_code == 400
    assert list(body) == ["error", "node_errors"]
    assert {"type", "message", "details", "extra_info"} <= set(body["error"])
    return body["error"]["type"], body["node_errors"]


def faults(server: ComfyUI, prompt: Any) -> dict[str, list[str]]:
    """Send a prompt none of whose outputs is valid; return the types of errors by node."""
    kind, node_errors = refused(server, prompt)
    assert kind == "prompt_outputs_failed_validation"
    return {node_id: [fault["type"] for fault in entry["errors"]] for node_id, entry in node_errors.items()}


def test_an_accepted_prompt_is_told_id_number_and_no_errors(comfyui: ComfyUI) -> None:
    body = comfyui.send(still()).json()
    assert list(body) == ["prompt_id", "number", "node_errors"]
    assert (type(body["number"]), body["node_errors"]) == (int, {})
    comfyui.wait_until_idle()


@pytest.mark.parametrize("prefix", ["", "/api"])
def test_every_route_is_there_with_a_prefix_too(comfyui: ComfyUI, prefix: str) -> None:
    for path in ("/prompt", "/queue", "/history", "/object_info/SaveImage", "/system_stats", "/models"):
        assert comfyui.call("GET", prefix + path).status_code == 200
    assert comfyui.call("POST", f"{prefix}/interrupt", {"prompt_id": "none"}).status_code == 200


def test_the_content_type_of_a_prompt_is_not_looked_at(comfyui: ComfyUI) -> None:
    data = json.dumps({"prompt": still()})
    assert comfyui.call("POST", "/prompt", data=data, headers={"Content-Type": "text/plain"}).status_code == 200
    comfyui.wait_until_idle()


@pytest.mark.parametrize("data", [b"{", b"", b"\xff", b'{"prompt": {}, "number": "x"}'])
def test_a_body_that_is_not_read_is_a_500_in_text(comfyui: ComfyUI, data: bytes) -> None:
    response = comfyui.call("POST", "/prompt", data=data)
    assert (response.status_code, response.headers["Content-Type"]) == (500, "text/plain; charset=utf-8")


def test_values_of_wrong_types_are_a_500(comfyui: ComfyUI) -> None:
    for body in ({"prompt": "text"}, {"prompt": still(), "extra_data": "text"}):
        assert comfyui.call("POST", "/prompt", body | {"client_id": "x"}).status_code == 500


@pytest.mark.parametrize("body", [{}, [], {"client_id": "x"}])
def test_a_body_without_a_prompt(comfyui: ComfyUI, body: Any) -> None:
    response = comfyui.call("POST", "/prompt", body)
    assert (response.status_code, response.json()["error"]["type"]) == (400, "no_prompt")


def test_a_prompt_without_an_output_node(comfyui: ComfyUI) -> None:
    assert refused(comfyui, {}) == ("prompt_no_outputs", {})
    assert refused(comfyui, {"1": still()["1"]}) == ("prompt_no_outputs", {})
    assert refused(comfyui, still(), partial_execution_targets=["1"]) == ("prompt_no_outputs", {})


def test_a_class_that_nobody_knows(release: ComfyUI) -> None:
    kind = "missing_node_type" if release.habits.missing_node_type else "invalid_prompt"
    wrongs: list[dict[str, Any]] = [{"inputs": {}}, node("NoSuchClass")]
    for wrong in wrongs:
        body = release.send(still() | {"2": wrong}).json()
        assert (body["error"]["type"], body["node_errors"]) == (kind, {})
        told = set(body["error"]["extra_info"])
        assert told == ({"node_id", "class_type", "node_title"} if release.habits.missing_node_type else set())


def test_the_errors_of_a_node_name_input_value_and_what_depends_on_it(comfyui: ComfyUI) -> None:
    prompt = txt2img(comfyui)
    prompt["1"]["inputs"]["ckpt_name"] = "a"
    kind, node_errors = refused(comfyui, prompt)
    assert (kind, list(node_errors)) == ("prompt_outputs_failed_validation", ["1"])
    entry = node_errors["1"]
    (fault,) = entry.pop("errors")
    assert entry == {"dependent_outputs": ["9"], "class_type": "CheckpointLoaderSimple"}
    assert (fault["type"], fault["message"]) == ("value_not_in_list", "Value not in list")
    assert fault["details"].startswith("ckpt_name: 'a' not in [")
    assert (fault["extra_info"]["input_name"], fault["extra_info"]["received_value"]) == ("ckpt_name", "a")
    assert fault["extra_info"]["input_config"][0] == [comfyui.checkpoint, *fault["extra_info"]["input_config"][0][1:]]


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("steps", 0, "value_smaller_than_min"),
        ("steps", 10_001, "value_bigger_than_max"),
        ("steps", "many", "invalid_input_type"),
        ("steps", None, "invalid_input_type"),
        ("steps", {}, "invalid_input_type"),
        ("seed", -1, "value_smaller_than_min"),
        ("seed", 2**64, "value_bigger_than_max"),
        ("cfg", "strong", "invalid_input_type"),
        ("denoise", 1.5, "value_bigger_than_max"),
        ("sampler_name", "Euler", "value_not_in_list"),
        ("scheduler", None, "value_not_in_list"),
        ("latent_image", ["2", 0], "return_type_mismatch"),
        ("latent_image", ["4"], "bad_linked_input"),
        ("latent_image", ["4", 0, 0], "bad_linked_input"),
    ],
)
def test_a_value_that_a_node_does_not_take(comfyui: ComfyUI, name: str, value: Any, kind: str) -> None:
    assert faults(comfyui, txt2img(comfyui, **{name: value})) == {"5": [kind]}


def test_an_input_that_is_missing(comfyui: ComfyUI) -> None:
    prompt = txt2img(comfyui)
    del prompt["5"]["inputs"]["seed"]
    assert faults(comfyui, prompt) == {"5": ["required_input_missing"]}


def test_an_input_image_that_is_not_there(comfyui: ComfyUI) -> None:
    prompt = still()
    for name in ("no-such.png", "../no-such.png", "no-such.png [output]", "a\0b"):
        prompt["1"] = node("LoadImage", image=name)
        assert faults(comfyui, prompt) == {"1": ["custom_validation_failed"]}
    wrongs: list[Any] = [7, None, {}]
    for wrong in wrongs:
        prompt["1"] = node("LoadImage", image=wrong)
        assert faults(comfyui, prompt) == {"1": ["exception_during_inner_validation"]}


@pytest.mark.parametrize("name", ["", ".", "/etc/passwd", "../../../../../../../../etc/passwd"])
def test_an_input_image_may_be_any_file_of_the_machine(comfyui: ComfyUI, name: str) -> None:
    prompt = still()
    prompt["1"] = node("LoadImage", image=name)
    entry = comfyui.finish(prompt)
    assert entry["status"]["messages"][-1][0] == "execution_error"


@pytest.mark.parametrize("link", [["77", 0], [1, 0], ["1", 5]])
def test_a_link_to_nowhere_is_an_exception_with_a_traceback(comfyui: ComfyUI, link: list[Any]) -> None:
    prompt = still()
    prompt["9"]["inputs"]["images"] = link
    kind, node_errors = refused(comfyui, prompt)
    (fault,) = node_errors["9"]["errors"]
    assert (kind, fault["type"]) == ("prompt_outputs_failed_validation", "exception_during_validation")
    assert fault["extra_info"]["traceback"]


def test_a_link_to_nowhere_below_the_output(comfyui: ComfyUI) -> None:
    prompt = stepping()
    prompt["5"]["inputs"]["image"] = ["77", 0]
    assert faults(comfyui, prompt) == {"5": ["exception_during_inner_validation"]}


def test_nodes_that_depend_on_each_other(release: ComfyUI) -> None:
    prompt = stepping()
    prompt["1"] = node("OperatorSteps", image=["5", 0], steps=1, step_s=0.0)
    prompt["5"]["inputs"]["image"] = ["1", 0]
    body = release.send(prompt)
    assert body.status_code == 400
    if release.habits.dependency_cycle:
        kinds = {fault["type"] for entry in body.json()["node_errors"].values() for fault in entry["errors"]}
        assert kinds == {"dependency_cycle"}


def test_values_are_converted_where_that_can_be_done(comfyui: ComfyUI) -> None:
    prompt = stepping()
    prompt["5"]["inputs"] |= {"steps": "4", "step_s": "0"}
    prompt["1"]["inputs"]["width"] = 64.9
    entry = comfyui.finish(prompt)
    assert entry["status"]["status_str"] == "success"
    assert entry["prompt"][2]["5"]["inputs"]["steps"] == 4


def test_inputs_and_nodes_that_nobody_needs_are_ignored(comfyui: ComfyUI) -> None:
    prompt = still()
    prompt["9"]["inputs"]["made_up"] = "x"
    prompt["7"] = node("EmptyImage", width=-5)
    entry = comfyui.finish(prompt)
    assert (entry["status"]["status_str"], list(entry["outputs"])) == ("success", ["9"])


def test_one_valid_output_is_enough_for_a_200_that_has_errors(comfyui: ComfyUI) -> None:
    prompt = still()
    prompt["2"] = node("LoadImage", image="no-such.png")
    prompt["8"] = node("SaveImage", images=["2", 0], filename_prefix="graycat-test")
    response = comfyui.send(prompt)
    assert (response.status_code, list(response.json()["node_errors"])) == (200, ["2"])
    entry = eventually(lambda: comfyui.history(response.json()["prompt_id"]), PATIENCE_S)
    assert (entry["status"]["status_str"], list(entry["outputs"])) == ("success", ["9"])


def test_a_part_of_the_outputs_can_be_asked_for(comfyui: ComfyUI) -> None:
    prompt = still()
    prompt["8"] = node("PreviewImage", images=["1", 0])
    entry = comfyui.finish(prompt, partial_execution_targets=["8"])
    assert list(entry["outputs"]) == ["8"]


def test_numbers_count_up_and_refused_prompts_count_too(comfyui: ComfyUI) -> None:
    first = comfyui.send(still()).json()["number"]
    refused(comfyui, {})
    assert comfyui.send(still()).json()["number"] == first + 2
    assert comfyui.send(still(), front=True).json()["number"] == -(first + 3)
    explicit = comfyui.send(still(), number=3)
    assert '"number": 3.0' in explicit.text
    comfyui.wait_until_idle()


def test_extra_data_is_kept_but_for_keys_of_accounts(release: ComfyUI) -> None:
    extra = {"api_key_comfy_org": "secret", "auth_token_comfy_org": "secret", "mine": 1}
    with release.busy():
        waiting = release.accept(still(), extra_data=extra, client_id="me")
        told = {item[1]: item[3] for item in release.get("/queue")["queue_pending"]}
    entry = eventually(lambda: release.history(waiting), PATIENCE_S)
    kept = entry["prompt"][3]
    assert (kept["mine"], kept["client_id"]) == (1, "me")
    assert "secret" not in json.dumps(entry)
    assert ("create_time" in kept) == release.habits.create_time
    assert ("secret" in json.dumps(told[waiting])) != release.habits.hides_keys


def test_a_caller_chooses_the_id(release: ComfyUI) -> None:
    chosen = str(uuid.uuid4())
    given = release.accept(still(), prompt_id=chosen)
    assert (given == chosen) == release.habits.client_ids
    assert uuid.UUID(given)
    release.wait_until_idle()


NO_UUIDS = ["x", 123, None, "", [1], "C0FFEE00-0000-4000-8000-00000000000A", "c0ffee0000004000800000000000000a"]


@pytest.mark.parametrize("bad", NO_UUIDS)
def test_an_id_that_is_no_uuid(release: ComfyUI, bad: Any) -> None:
    if release.habits.only_uuids:
        assert refused(release, still(), prompt_id=bad) == ("invalid_prompt_id", {})
    elif release.habits.client_ids:
        assert release.accept(still(), prompt_id=bad) == str(bad)
    release.wait_until_idle()


def test_the_same_id_twice_runs_twice_and_leaves_the_last_one(release: ComfyUI) -> None:
    if not release.habits.client_ids:
        return
    prompt_id = str(uuid.uuid4())
    with release.busy():
        for prefix in ("graycat-first", "graycat-second"):
            assert release.send(still(prefix=prefix), prompt_id=prompt_id).status_code == 200
        assert release.queued()[1] == [prompt_id, prompt_id]
    release.wait_until_idle()
    assert release.history(prompt_id)["outputs"]["9"]["images"][0]["filename"].startswith("graycat-second")


def test_the_same_id_and_number_is_a_500_and_runs_all_the_same(release: ComfyUI) -> None:
    if not release.habits.client_ids:
        return
    prompt_id = str(uuid.uuid4())
    with release.busy():
        statuses = [release.send(still(), prompt_id=prompt_id, number=7).status_code for _ in range(2)]
        assert statuses == [200, 500]
        assert release.queued()[1] == [prompt_id, prompt_id]
    release.wait_until_idle()
    assert release.history(prompt_id)["status"]["status_str"] == "success"
