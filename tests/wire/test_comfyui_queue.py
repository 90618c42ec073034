"""ComfyUI's queue, interrupts, history and jobs: sections 4 and 5 of its facts."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.support.comfyui_wire import PATIENCE_S, ComfyUI, Listener, node, pausing, stepping, still, through
from tests.support.processes import eventually


def test_what_runs_and_what_waits_is_told_with_the_whole_workflows(comfyui: ComfyUI) -> None:
    prompt = still()
    with comfyui.busy() as running:
        waiting = comfyui.accept(prompt, client_id="me")
        queue = comfyui.get("/queue")
        assert comfyui.get("/prompt") == {"exec_info": {"queue_remaining": 2}}
    assert list(queue) == ["queue_running", "queue_pending"]
    assert [item[1] for item in queue["queue_running"]] == [running]
    ((number, prompt_id, workflow, extra_data, outputs),) = queue["queue_pending"]
    assert (prompt_id, workflow, extra_data["client_id"], outputs) == (waiting, prompt, "me", ["9"])
    assert number > queue["queue_running"][0][0]
    comfyui.wait_until_idle()


def test_what_waits_is_told_in_the_order_of_a_heap(comfyui: ComfyUI) -> None:
    with comfyui.busy():
        numbers = [30.0, 20.0, 10.0, 5.0, 7.0]
        ids = [comfyui.accept(still(), number=number) for number in numbers]
        pending = comfyui.get("/queue")["queue_pending"]
        told = [item[0] for item in pending]
        assert comfyui.call("POST", "/queue", {"delete": ids}).status_code == 200
    assert (told[0], sorted(told)) == (5.0, sorted(numbers))
    assert told != sorted(numbers)


def test_a_prompt_that_waits_is_deleted_without_a_trace(comfyui: ComfyUI) -> None:
    with comfyui.busy():
        gone, kept = comfyui.accept(still()), comfyui.accept(still())
        response = comfyui.call("POST", "/queue", {"delete": [gone]})
        assert (response.status_code, response.content) == (200, b"")
        assert comfyui.queued()[1] == [kept]
    comfyui.wait_until_idle()
    assert (comfyui.history(gone), comfyui.history(kept)["status"]["status_str"]) == (None, "success")
    if comfyui.habits.jobs:
        assert comfyui.call("GET", f"/api/jobs/{gone}").status_code == 404


def test_a_delete_is_a_200_whatever_is_asked_for(comfyui: ComfyUI) -> None:
    with comfyui.busy() as running:
        waiting = comfyui.accept(still())
        for wanted in ([], ["no-such-id"], waiting, [running], [7]):
            assert comfyui.call("POST", "/queue", {"delete": wanted}).status_code == 200
        assert comfyui.queued() == ([running], [waiting])
    comfyui.wait_until_idle()


def test_a_delete_removes_one_of_several_with_the_same_id(release: ComfyUI) -> None:
    if not release.habits.client_ids:
        return
    prompt_id = str(uuid.uuid4())
    with release.busy():
        for _ in range(2):
            release.accept(still(), prompt_id=prompt_id)
        release.call("POST", "/queue", {"delete": [prompt_id]})
        assert release.queued()[1] == [prompt_id]
    release.wait_until_idle()


def test_a_clear_takes_all_that_wait_and_leaves_what_runs(comfyui: ComfyUI) -> None:
    with comfyui.busy() as running:
        for _ in range(2):
            comfyui.accept(still())
        assert comfyui.call("POST", "/queue", {"clear": True}).status_code == 200
        assert comfyui.queued() == ([running], [])


def test_an_interrupt_by_id_leaves_others_alone(release: ComfyUI) -> None:
    with release.busy() as running:
        waiting = release.accept(still())
        for named in (waiting, "no-such-id"):
            if release.habits.targeted_interrupt:
                assert release.call("POST", "/interrupt", {"prompt_id": named}).status_code == 200
                assert release.queued() == ([running], [waiting])
    release.wait_until_idle()
    assert release.history(running)["status"]["messages"][-1][0] == "execution_interrupted"
    assert release.history(waiting)["status"]["status_str"] == "success"


def test_before_interrupts_knew_ids_any_of_them_ended_whatever_runs(release: ComfyUI) -> None:
    if release.habits.targeted_interrupt:
        return
    running = release.accept(stepping(steps=100_000, step_s=0.01))
    release.wait_until_running(running)
    release.call("POST", "/interrupt", {"prompt_id": "of somebody else"})
    eventually(lambda: release.history(running), PATIENCE_S)


@pytest.mark.parametrize("data", [None, b"{}", b"{", b"no", b'{"prompt_id": ""}', b'{"prompt_id": null}'])
def test_an_interrupt_without_an_id_ends_whatever_runs(comfyui: ComfyUI, data: bytes | None) -> None:
    running = comfyui.accept(stepping(steps=100_000, step_s=0.01))
    comfyui.wait_until_running(running)
    response = comfyui.call("POST", "/interrupt", data=data)
    assert (response.status_code, response.content) == (200, b"")
    entry = eventually(lambda: comfyui.history(running), PATIENCE_S)
    assert entry["status"]["messages"][-1][0] == "execution_interrupted"


def test_an_interrupt_that_is_a_list_is_a_500(comfyui: ComfyUI) -> None:
    assert comfyui.call("POST", "/interrupt", ["x"]).status_code == 500


def test_an_interrupt_of_nothing_does_not_hit_what_comes_next(comfyui: ComfyUI) -> None:
    comfyui.wait_until_idle()
    comfyui.call("POST", "/interrupt")
    assert comfyui.finish(stepping())["status"]["status_str"] == "success"


def test_an_interrupt_in_a_node_without_progress_names_the_next_node(comfyui: ComfyUI) -> None:
    prompt = pausing(0.5)
    prompt["6"] = node("OperatorSteps", image=["5", 0], steps=1, step_s=0.0)
    prompt["9"]["inputs"]["images"] = ["6", 0]
    with Listener(comfyui) as listener:
        prompt_id = comfyui.accept(prompt, client_id=listener.client_id)
        listener.wait(lambda _: any(data.get("node") == "5" for data in listener.of("executing")))
        comfyui.call("POST", "/interrupt", {"prompt_id": prompt_id})
        listener.wait_for_end(prompt_id)
        (told,) = listener.of("execution_interrupted")
    assert (told["node_id"], told["node_type"]) == ("6", "OperatorSteps")
    assert {"1", "5"} <= set(told["executed"])


def test_an_interrupt_in_the_last_node_is_lost(comfyui: ComfyUI) -> None:
    prompt = pausing(0.5)
    del prompt["9"]
    with Listener(comfyui) as listener:
        prompt_id = comfyui.accept(prompt, client_id=listener.client_id)
        listener.wait(lambda _: any(data.get("node") == "5" for data in listener.of("executing")))
        comfyui.call("POST", "/interrupt", {"prompt_id": prompt_id})
        listener.wait_for_end(prompt_id)
    assert comfyui.history(prompt_id)["status"]["status_str"] == "success"
    assert comfyui.finish(stepping())["status"]["status_str"] == "success"


def test_free_is_a_200_and_wants_a_body(comfyui: ComfyUI) -> None:
    answer = comfyui.call("POST", "/free", {"unload_models": True, "free_memory": True})
    assert (answer.status_code, answer.content) == (200, b"")
    assert comfyui.call("POST", "/free").status_code == 500


def test_history_is_empty_while_a_prompt_is_not_over(comfyui: ComfyUI) -> None:
    with comfyui.busy() as running:
        waiting = comfyui.accept(still())
        for prompt_id in (running, waiting, "no-such-id"):
            assert comfyui.get(f"/history/{prompt_id}") == {}
    comfyui.wait_until_idle()


def test_history_of_a_success(comfyui: ComfyUI) -> None:
    prompt = still()
    entry = comfyui.finish(prompt, client_id="me")
    assert sorted(entry) == ["meta", "outputs", "prompt", "status"]
    assert (entry["prompt"][2], entry["prompt"][4]) == (prompt, ["9"])
    (image,) = entry["outputs"]["9"]["images"]
    assert (image["filename"].endswith("_.png"), image["subfolder"], image["type"]) == (True, "", "output")
    status = entry["status"]
    assert (status["status_str"], status["completed"]) == ("success", True)
    kinds = [kind for kind, _ in status["messages"]]
    assert kinds == ["execution_start", "execution_cached", "execution_success"]
    assert all(data["timestamp"] > 1_700_000_000_000 for _, data in status["messages"])
    own = {"node_id": "9", "display_node": "9", "parent_node": None, "real_node_id": "9"}
    assert entry["meta"] == {"9": own}


@pytest.mark.parametrize(("how", "kind"), [("error", "RuntimeError"), ("oom", "torch.OutOfMemoryError")])
def test_history_of_an_error(comfyui: ComfyUI, how: str, kind: str) -> None:
    prompt = through("OperatorFail", how=how)
    entry = comfyui.finish(prompt)
    assert (entry["status"]["status_str"], entry["status"]["completed"]) == ("error", False)
    last, data = entry["status"]["messages"][-1]
    assert (last, data["node_id"], data["node_type"]) == ("execution_error", "5", "OperatorFail")
    assert data["exception_type"] in (kind, "torch.cuda.OutOfMemoryError" if how == "oom" else kind)
    assert {"exception_message", "traceback", "current_inputs", "current_outputs", "executed"} <= set(data)


def test_history_of_an_interrupt_lists_what_was_made_before(comfyui: ComfyUI) -> None:
    prompt = stepping(steps=100_000, step_s=0.01)
    with Listener(comfyui) as listener:
        prompt["7"] = node("EmptyImage", width=16, height=16, batch_size=1, color=uuid.uuid4().int % 2**24)
        prompt["8"] = node("SaveImage", images=["7", 0], filename_prefix="graycat-early")
        prompt_id = comfyui.accept(prompt, client_id=listener.client_id)
        listener.wait(lambda _: bool(listener.of("progress")))
        comfyui.interrupt(prompt_id)
        early = [data["node"] for data in listener.of("executed")]
    entry = comfyui.history(prompt_id)
    assert (entry["status"]["status_str"], entry["status"]["completed"]) == ("error", False)
    assert entry["status"]["messages"][-1][0] == "execution_interrupted"
    assert list(entry["outputs"]) == early


def test_text_is_an_output_too(comfyui: ComfyUI) -> None:
    prompt = {"1": node("OperatorText", text="hello"), "2": node("PreviewAny", source=["1", 0])}
    assert comfyui.finish(prompt)["outputs"]["2"]["text"] == ["hello"]


def test_history_can_be_paged_and_forgotten(comfyui: ComfyUI) -> None:
    first, second = (comfyui.accept(still()) for _ in range(2))
    comfyui.wait_until_idle()
    known = list(comfyui.get("/history"))
    assert known[-2:] == [first, second]
    assert list(comfyui.get("/history?max_items=1")) == [second]
    assert list(comfyui.get(f"/history?max_items=1&offset={len(known) - 2}")) == [first]
    assert comfyui.call("GET", "/history?max_items=x").status_code == 500
    answer = comfyui.call("POST", "/history", {"delete": [first, "no-such-id"]})
    assert (answer.status_code, answer.content, comfyui.history(first)) == (200, b"", None)


def test_a_job_is_told_in_all_its_states(release: ComfyUI) -> None:
    def job(prompt_id: str) -> Any:
        response = release.call("GET", f"/api/jobs/{prompt_id}")
        assert response.status_code == (200 if release.habits.jobs else 404)
        return response.json() if release.habits.jobs else None

    with release.busy() as running:
        waiting = release.accept(still())
        seen = [job(running), job(waiting)]
    release.wait_until_idle()
    failed = release.accept(through("OperatorFail", how="error"))
    release.wait_until_idle()
    if release.habits.jobs:
        seen += [job(running), job(waiting), job(failed)]
        states = ["in_progress", "pending", "cancelled", "completed", "failed"]
        assert [entry["status"] for entry in seen] == states
        unknown = release.call("GET", f"/api/jobs/{uuid.uuid4()}")
        assert (unknown.status_code, unknown.json()) == (404, {"error": "Job not found"})
        listed = release.get("/api/jobs?status=failed,cancelled&limit=2")
        assert set(listed["pagination"]) == {"offset", "limit", "total", "has_more"}
        assert {entry["status"] for entry in listed["jobs"]} <= {"failed", "cancelled"}
    assert release.call("GET", "/jobs").status_code == 404


def test_a_job_can_be_cancelled_in_one_call_by_new_releases(release: ComfyUI) -> None:
    if not release.habits.cancels_jobs:
        for path in (f"/api/jobs/{uuid.uuid4()}/cancel", "/api/jobs/cancel"):
            assert release.call("POST", path, {}).status_code in (404, 405)
        return
    running = release.accept(stepping(steps=100_000, step_s=0.01))
    release.wait_until_running(running)
    waiting = release.accept(still())
    assert release.call("POST", f"/api/jobs/{waiting}/cancel").json() == {"cancelled": True}
    assert release.call("POST", "/api/jobs/cancel", {"job_ids": [running]}).json() == {"cancelled": True}
    eventually(lambda: release.history(running), PATIENCE_S)
    assert release.history(waiting) is None
    assert release.call("POST", f"/api/jobs/{running}/cancel").json() == {"cancelled": False}
    assert release.call("POST", "/api/jobs/cancel", {"job_ids": ["x"]}).status_code == 400
