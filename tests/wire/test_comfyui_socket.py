"""ComfyUI's socket: section 6 of its facts."""

from __future__ import annotations

import json
import struct
import uuid
from io import BytesIO

from PIL import Image

from tests.support.comfyui_wire import PATIENCE_S, ComfyUI, Listener, stepping, still, through, txt2img
from tests.support.processes import eventually


def run(server: ComfyUI, listener: Listener, prompt: dict[str, object]) -> str:
    """Run a prompt to its end; return its id."""
    prompt_id = server.accept(prompt, client_id=listener.client_id)
    listener.wait_for_end(prompt_id)
    return prompt_id


def test_the_first_message_is_a_status_with_the_sid(comfyui: ComfyUI) -> None:
    comfyui.wait_until_idle()
    with Listener(comfyui) as listener:
        data = {"status": {"exec_info": {"queue_remaining": 0}}, "sid": listener.client_id}
        assert listener.messages[0] == {"type": "status", "data": data}
    with Listener(comfyui, "") as listener:
        assert len(listener.json[0]["data"]["sid"]) == 32


def test_a_run_tells_its_steps_in_order(release: ComfyUI) -> None:
    release.wait_until_idle()
    with Listener(release) as listener:
        prompt_id = run(release, listener, stepping(steps=2))
        kinds = listener.kinds()
        tail = [listener.json[-2], listener.json[-1]]
        executing = [data["node"] for data in listener.of("executing")]
        named = [m["data"]["prompt_id"] for m in listener.json if m["type"] != "status"]
    told = [kind for kind in kinds if kind not in ("progress_state", "progress")]
    # Connected; queued, taken.
    assert told[:5] == ["status", "status", "status", "execution_start", "execution_cached"]
    assert told[5:] == [*["executing"] * 3, "executed", "execution_success", "status", "executing"]
    assert executing == ["1", "5", "9", None]
    assert set(named) == {prompt_id}
    assert tail[0] == {"type": "status", "data": {"status": {"exec_info": {"queue_remaining": 0}}}}
    assert tail[1] == {"type": "executing", "data": {"node": None, "prompt_id": prompt_id}}
    assert ("progress_state" in kinds) == release.habits.progress_state


def test_history_is_there_at_the_last_message(comfyui: ComfyUI) -> None:
    with Listener(comfyui) as listener:
        for _ in range(10):
            assert comfyui.history(run(comfyui, listener, still())) is not None


def test_the_last_message_comes_after_errors_and_interrupts_too(comfyui: ComfyUI) -> None:
    with Listener(comfyui) as listener:
        failed = run(comfyui, listener, through("OperatorFail", how="error"))
        (error,) = listener.of("execution_error")
        prompt_id = comfyui.accept(stepping(steps=100_000, step_s=0.01), client_id=listener.client_id)
        listener.wait(lambda _: bool(listener.of("progress")))
        comfyui.call("POST", "/interrupt", {"prompt_id": prompt_id})
        listener.wait_for_end(prompt_id)
        (interrupted,) = listener.of("execution_interrupted")
    assert (error["prompt_id"], error["node_id"], error["exception_type"]) == (failed, "5", "RuntimeError")
    assert (interrupted["prompt_id"], interrupted["node_id"]) == (prompt_id, "5")


def test_the_states_of_all_nodes_so_far(release: ComfyUI) -> None:
    with Listener(release) as listener:
        prompt_id = run(release, listener, stepping(steps=2))
        states = listener.of("progress_state")
    if not release.habits.progress_state:
        assert states == []
        return
    assert set(states[0]) == {"prompt_id", "nodes"}
    fields = {"value", "max", "state", "node_id", "display_node_id", "parent_node_id", "real_node_id", "prompt_id"}
    assert {frozenset(own) for state in states for own in state["nodes"].values()} == {frozenset(fields)}
    last = states[-1]["nodes"]
    assert set(last) == {"1", "5", "9"}
    assert {own["state"] for own in last.values()} == {"finished"}
    assert (last["5"]["value"], last["5"]["max"], states[-1]["prompt_id"]) == (2, 2, prompt_id)


def test_progress_is_told_step_by_step_or_throttled(release: ComfyUI) -> None:
    with Listener(release) as listener:
        run(release, listener, stepping(steps=2000))
        told = listener.of("progress")
    values = [data["value"] for data in told]
    assert {frozenset(data) for data in told} == {frozenset({"value", "max", "prompt_id", "node"})}
    assert (values[0], values[-1], {data["max"] for data in told}) == (1, 2000, {2000})
    assert (len(values) < 500) == release.habits.throttled


def test_nodes_that_are_cached_are_told_and_not_run_again(comfyui: ComfyUI) -> None:
    prompt = still()
    with Listener(comfyui) as listener:
        run(comfyui, listener, prompt)
        run(comfyui, listener, prompt)
        first, second = listener.of("executed")
        cached = listener.of("execution_cached")[-1]
        executing = [data["node"] for data in listener.of("executing")]
    assert set(cached["nodes"]) == {"1", "9"}
    assert first["output"] == second["output"]
    assert executing == ["1", "9", None, None]


def test_run_messages_go_to_their_client_and_status_to_all(comfyui: ComfyUI) -> None:
    with Listener(comfyui) as own, Listener(comfyui) as other:
        run(comfyui, own, stepping())
        other.wait(lambda _: len(other.of("status")) == len(own.of("status")))
        assert set(other.kinds()) == {"status"}


def test_without_a_client_progress_goes_to_everybody(release: ComfyUI) -> None:
    release.wait_until_idle()
    with Listener(release) as listener:
        release.finish(stepping())
        listener.wait(lambda _: "progress" in listener.kinds())
        known = {"status", "progress", "progress_state"}
        assert set(listener.kinds()) - {"progress_state"} == {"status", "progress"}
        assert set(listener.kinds()) <= known
        interrupted = release.accept(stepping(steps=100_000, step_s=0.01))
        release.wait_until_running(interrupted)
        release.interrupt(interrupted)
        listener.wait(lambda _: "execution_interrupted" in listener.kinds())


def test_one_that_comes_back_during_its_run_hears_the_node_without_an_id(comfyui: ComfyUI) -> None:
    client_id = uuid.uuid4().hex
    with Listener(comfyui, client_id) as listener:
        # Progress is told each half per cent.
        prompt_id = comfyui.accept(stepping(steps=1000, step_s=0.05), client_id=client_id)
        listener.wait(lambda _: bool(listener.of("progress")))
    with Listener(comfyui, client_id) as listener:
        listener.wait(lambda messages: len(messages) > 2)
        assert listener.kinds()[0] == "status"
        assert {"type": "executing", "data": {"node": "5"}} in listener.json[:2]
        comfyui.interrupt(prompt_id)
        listener.wait_for_end(prompt_id)


def test_one_that_comes_late_hears_its_run(comfyui: ComfyUI) -> None:
    client_id = uuid.uuid4().hex
    with comfyui.busy():
        prompt_id = comfyui.accept(still(), client_id=client_id)
        listener = Listener(comfyui, client_id)
    with listener:
        listener.wait_for_end(prompt_id)
        assert "execution_start" in listener.kinds()


def test_the_same_client_twice_makes_the_newer_deaf_when_the_older_goes(comfyui: ComfyUI) -> None:
    client_id = uuid.uuid4().hex
    older = Listener(comfyui, client_id)
    with Listener(comfyui, client_id) as newer:
        run(comfyui, newer, still())
        assert older.kinds() == ["status"]
        older.close()
        heard = len(newer.messages)
        with Listener(comfyui) as other:
            comfyui.finish(still(), client_id=client_id)
            other.wait(lambda _: len(other.of("status")) > 2)
        assert (len(newer.messages), newer.closed) == (heard, False)


def test_a_client_that_tells_its_features_is_told_the_servers(release: ComfyUI) -> None:
    with Listener(release) as listener:
        listener.say({"type": "feature_flags", "data": {"supports_preview_metadata": True}})
        if release.habits.client_ids:
            listener.wait(lambda _: bool(listener.of("feature_flags")))
        run(release, listener, still())
        told = listener.of("feature_flags")
    if release.habits.client_ids:
        assert told == [release.get("/features")]
        assert told[0]["supports_preview_metadata"] is True
        assert told[0]["max_upload_size"] == 104857600


def test_previews_without_metadata_come_after_their_progress(release: ComfyUI) -> None:
    with Listener(release) as listener:
        run(release, listener, txt2img(release, seed=uuid.uuid4().int % 2**60))
        frames = listener.frames
        first = next(i for i, message in enumerate(listener.messages) if isinstance(message, bytes))
        before = listener.messages[first - 1]
    assert len(frames) == 4
    assert {struct.unpack(">II", frame[:8]) for frame in frames} == {(1, 1)}
    assert Image.open(BytesIO(frames[0][8:])).format == "JPEG"
    assert isinstance(before, dict)
    assert before["type"] == "progress"


def test_previews_with_metadata_name_their_prompt_and_come_before_their_progress(release: ComfyUI) -> None:
    if not release.habits.progress_state:
        return
    with Listener(release) as listener:
        listener.say({"type": "feature_flags", "data": {"supports_preview_metadata": True}})
        listener.wait(lambda _: "feature_flags" in listener.kinds())
        prompt_id = run(release, listener, txt2img(release, seed=uuid.uuid4().int % 2**60))
        frames = listener.frames
        first = next(i for i, message in enumerate(listener.messages) if isinstance(message, bytes))
        after = listener.messages[first + 1]
    kind, length = struct.unpack(">II", frames[0][:8])
    told = json.loads(frames[0][8 : 8 + length])
    assert (kind, told["prompt_id"], told["node_id"], told["image_type"]) == (4, prompt_id, "5", "image/jpeg")
    assert Image.open(BytesIO(frames[0][8 + length :])).format == "JPEG"
    assert isinstance(after, dict)
    assert after["type"] == "progress"


def test_a_prompt_can_say_that_it_wants_no_previews(release: ComfyUI) -> None:
    with Listener(release) as listener:
        extra = {"preview_method": "none"}
        prompt = txt2img(release, seed=uuid.uuid4().int % 2**60)
        prompt_id = release.accept(prompt, client_id=listener.client_id, extra_data=extra)
        listener.wait_for_end(prompt_id)
        assert (listener.frames == []) == release.habits.preview_method


def test_what_a_client_says_does_not_harm(comfyui: ComfyUI) -> None:
    with Listener(comfyui) as listener:
        said: list[object] = [7, None, [], "text", {"type": "feature_flags"}]
        for message in said:
            listener.say(message)
        run(comfyui, listener, still())


def test_a_page_of_another_origin_gets_no_socket(comfyui: ComfyUI) -> None:
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Origin": "http://evil.example"}
    handshake = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version": "13"}
    assert comfyui.call("GET", "/ws", headers=upgrade | handshake).status_code == 403


def test_the_double_can_refuse_sockets_fall_silent_and_cut_them(comfyui: ComfyUI) -> None:
    if comfyui.process is None:
        return
    with Listener(comfyui) as listener:
        comfyui.set(socket="silent")
        comfyui.finish(still(), client_id=listener.client_id)
        assert listener.kinds() == ["status"]
        comfyui.set(socket="cut")
        assert comfyui.finish(stepping(), client_id=listener.client_id)["status"]["status_str"] == "success"
        eventually(lambda: listener.closed, PATIENCE_S)
    comfyui.set(socket="refused")
    assert comfyui.call("GET", "/ws").status_code == 404
    comfyui.set(socket="well")
