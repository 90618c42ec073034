"""Image tasks on a running ComfyUI: its double, as a process, with all of a worker but Celery in front of it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from celery.exceptions import Reject
from PIL import Image

from graycat.engines.client import StopReason
from graycat.engines.comfy import render
from graycat.engines.comfy.render import prompt_id_of
from graycat.engines.comfy.wire import ComfyWire
from graycat.engines.comfyui import ComfyEngine, build_comfyui
from graycat.engines.renders import RenderJob
from tests.support.comfyui_wire import ComfyUI, running, still
from tests.support.helpers import Valkey, changed, eventually, kinds, outcome_of
from tests.support.servers import Seen
from tests.support.webuis import accept, answer_of, encoded, picture, stored
from tests.support.workers import Worker

pytestmark = pytest.mark.usefixtures("impatient")

#: An operator's workflow: a text, a picture, a seed and steps are named by titles.
TINTED: dict[str, Any] = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "mine.png"}, "_meta": {"title": "input:image"}},
    "2": {
        "class_type": "OperatorTint",
        "inputs": {"image": ["1", 0], "gain": 1.0, "bits": 4, "inverted": False, "style": "plain", "note": ""},
        "_meta": {"title": "input:gain=gain, bits=bits, inverted=inverted, style=style"},
    },
    "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "mine"}},
}


@pytest.fixture(scope="module")
def comfyui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyUI]:
    base = tmp_path_factory.mktemp("comfyui")
    with running("--preview-method", "auto", "--step-s", "0.01", base=base) as server:
        yield server


@pytest.fixture
def well(comfyui: ComfyUI) -> Iterator[ComfyUI]:
    """The server, which tells the truth again afterwards."""
    yield comfyui
    comfyui.set(lie=None, socket="well", fail=None)


@pytest.fixture(autouse=True)
def short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOOK_S", "POLL_URGENT_S"):
        monkeypatch.setattr(render, name, 0.02)
    for name in ("LOST_POST_S", "SILENT_AFTER_S", "POLL_SILENT_S"):
        monkeypatch.setattr(render, name, 0.2)


@contextmanager
def comfy_worker(broker: Valkey, url: str, **changes: Any) -> Iterator[Worker]:
    """Yield a worker whose ready engine is the ComfyUI at ``url``."""
    engine = build_comfyui(changed(broker.settings, comfyui_url=url, **changes))
    worker = Worker(broker, engine, Seen({}), queues=("sd", "sd.batch"), **changes)
    try:
        worker.raise_engine()
        yield worker
    finally:
        while engine.client._idle:
            engine.client._idle.pop()[1].close()
        worker.client.close()


def fox(**fields: Any) -> bytes:
    return json.dumps({"prompt": "a fox", "width": 64, "height": 64, "steps": 5} | fields).encode()


def begin(worker: Worker, server: ComfyUI, task_id: str) -> Callable[[], None]:
    """Run a task in a thread until its prompt runs; return how to wait for its end."""
    end = outcome_of(lambda: worker.run(task_id))
    server.wait_until_running(prompt_id_of(task_id, 1))
    return end


def catalog_of(worker: Worker) -> Any:
    info = worker.runtime.supervisor.info
    assert info is not None
    return info.catalog


def workflow_task(worker: Worker, name: str, **values: Any) -> str:
    return accept(worker, "sd.workflow", body=json.dumps({"workflow": name, "input": values}).encode())


def test_images_have_seeds_of_their_own_and_say_how_they_were_made(broker: Valkey, comfyui: ComfyUI) -> None:
    with comfy_worker(broker, comfyui.url) as worker:
        fields = {"n_iter": 2, "batch_size": 2, "seed": 7, "sampler_name": "DPM++ 2M Karras", "width": 96}
        task_id = accept(worker, body=fox(**fields))
        worker.run(task_id)
        assert worker.ended(task_id) == ("succeeded", "200")
        info = json.loads(answer_of(worker, task_id)[1]["info"])
        assert (info["all_seeds"], info["sampler_name"], info["scheduler"]) == ([7, 8, 9, 10], "DPM++ 2M", "Karras")
        images = stored(worker, task_id)
        assert len(set(images)) == 4
        for number, image in enumerate(images):
            with Image.open(io.BytesIO(image)) as opened:
                assert opened.size == (96, 64)
                assert f"Seed: {7 + number}, Size: 96x64, Model: model1" in opened.info["parameters"]
        again = accept(worker, body=fox(seed=9, sampler_name="DPM++ 2M", scheduler="Karras", width=96))
        worker.run(again)
        with Image.open(io.BytesIO(stored(worker, again)[0])) as alone, Image.open(io.BytesIO(images[2])) as third:
            assert alone.tobytes() == third.tobytes()


@pytest.mark.parametrize(("upscaler", "size"), [("Lanczos", (64, 48)), ("MODEL", (64, 48)), ("None", (32, 24))])
def test_an_image_is_enlarged(broker: Valkey, comfyui: ComfyUI, upscaler: str, size: tuple[int, int]) -> None:
    with comfy_worker(broker, comfyui.url) as worker:
        listed = [row["name"] for row in json.loads(catalog_of(worker)["upscalers"])]
        body = {"image": encoded(picture("red", "PNG", (32, 24))), "upscaler_1": upscaler.replace("MODEL", listed[-1])}
        task_id = accept(worker, "sd.extra_single", body=json.dumps(body).encode())
        worker.run(task_id)
        assert worker.ended(task_id) == ("succeeded", "200")
        assert answer_of(worker, task_id)[1] == {"html_info": "", "image": {"artifact": 0}}
        with Image.open(io.BytesIO(stored(worker, task_id)[0])) as opened:
            assert opened.size == size


def test_the_workflow_leaves_the_files_if_the_owner_wants_that(broker: Valkey, comfyui: ComfyUI) -> None:
    for strip in (False, True):
        with comfy_worker(broker, comfyui.url, comfyui_strip_workflow=strip) as worker:
            task_id = accept(worker, body=fox())
            worker.run(task_id)
            (image,) = stored(worker, task_id)
            assert (b"CheckpointLoaderSimple" in image) is not strip
            with Image.open(io.BytesIO(image)) as opened:
                opened.load()
                assert "Steps: 5" in opened.info["parameters"]


def test_the_same_request_again_makes_new_files(broker: Valkey, comfyui: ComfyUI) -> None:
    with comfy_worker(broker, comfyui.url) as worker:
        for _ in range(2):
            task_id = accept(worker, body=fox(seed=4))
            worker.run(task_id)
            assert worker.ended(task_id) == ("succeeded", "200")
            files = comfyui.history(prompt_id_of(task_id, 1))["outputs"]["saved-0"]["images"]
            assert files[0]["subfolder"] == f"graycat/{prompt_id_of(task_id, 1)}"


def test_a_part_of_an_image_is_painted(broker: Valkey, comfyui: ComfyUI) -> None:
    source, mask = picture("blue", size=(64, 64)), Image.new("L", (64, 64))
    mask.paste(255, (32, 0, 64, 64))
    file = io.BytesIO()
    mask.save(file, "PNG")
    with comfy_worker(broker, comfyui.url) as worker:
        fields = {"init_images": [encoded(source)], "mask": encoded(file.getvalue()), "mask_blur": 0}
        task_id = accept(worker, "sd.img2img", body=fox(denoising_strength=1.0, **fields))
        worker.run(task_id)
        assert worker.ended(task_id) == ("succeeded", "200")
        with Image.open(io.BytesIO(stored(worker, task_id)[0])) as opened:
            painted = opened.convert("RGB")
            assert painted.getpixel((4, 32)) == (0, 0, 255)
            assert painted.getpixel((60, 32)) != (0, 0, 255)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"enable_hr": True}, "enable_hr"),
        ({"styles": ["one"]}, "styles"),
        ({"restore_faces": True}, "restore_faces"),
        ({"tiling": 1}, "tiling"),
        ({"script_name": "X/Y/Z plot"}, "script_name"),
        ({"alwayson_scripts": {"ControlNet": {"args": [{}]}}}, "alwayson_scripts"),
        ({"eta": 0.5}, "eta"),
        ({"subseed": 5, "subseed_strength": 0.5}, "subseed"),
        ({"override_settings": {"eta_noise_seed_delta": 5}}, "eta_noise_seed_delta"),
        ({"sampler_name": "Restart"}, "sampler_name"),
        ({"scheduler": "Align Your Steps"}, "scheduler"),
        ({"prompt": "a <lora:nobody:1> fox"}, "nobody"),
        ({"prompt": "a <hypernet:it:1> fox"}, "prompt"),
        ({"prompt": "embedding:../../secret"}, "embedding"),
        ({"cfg_scale": 1000}, "cfg_scale"),
        ({"something_new": True}, "something_new"),
    ],
)
def test_what_no_template_can_do_is_refused_by_name(
    broker: Valkey, comfyui: ComfyUI, fields: dict[str, Any], named: str
) -> None:
    with comfy_worker(broker, comfyui.url) as worker:
        task_id = accept(worker, body=fox(**fields))
        worker.run(task_id)
        assert worker.ended(task_id) == ("failed", "400")
        assert named in answer_of(worker, task_id)[1]["error"]["message"]
        assert comfyui.history(prompt_id_of(task_id, 1)) is None


def test_a_request_of_webuiapi_with_values_that_change_nothing_passes(broker: Valkey, comfyui: ComfyUI) -> None:
    nothing = {
        "enable_hr": False, "hr_scale": 2, "hr_upscaler": "Latent", "hr_second_pass_steps": 0, "hr_resize_x": 0,
        "hr_resize_y": 0, "firstphase_width": 0, "firstphase_height": 0, "styles": [], "subseed": -1,
        "subseed_strength": 0, "seed_resize_from_h": 0, "seed_resize_from_w": 0, "restore_faces": False,
        "tiling": False, "do_not_save_samples": False, "do_not_save_grid": False, "eta": None, "s_churn": 0,
        "s_tmax": 0, "s_tmin": 0, "s_noise": 1, "override_settings": {}, "script_args": [], "script_name": None,
        "override_settings_restore_afterwards": True, "send_images": True, "save_images": False,
        "alwayson_scripts": {"Dynamic Prompts": {}}, "use_deprecated_controlnet": False, "seed": -1,
        "sampler_index": "Euler", "denoising_strength": 0.7, "scheduler": "Automatic", "negative_prompt": "",
    }  # fmt: skip
    with comfy_worker(broker, comfyui.url) as worker:
        task_id = accept(worker, body=fox(**nothing))
        worker.run(task_id)
        assert worker.ended(task_id) == ("succeeded", "200")


def test_a_lora_and_a_clip_skip_change_the_image(broker: Valkey, comfyui: ComfyUI) -> None:
    with comfy_worker(broker, comfyui.url) as worker:
        name = json.loads(catalog_of(worker)["loras"])[0]["name"]
        made = []
        skip = {"override_settings": {"CLIP_stop_at_last_layers": 2}}
        for fields in ({}, {"prompt": f"a fox <lora:{name}:0.5>"}, skip):
            task_id = accept(worker, body=fox(seed=4, **fields))
            worker.run(task_id)
            with Image.open(io.BytesIO(stored(worker, task_id)[0])) as opened:
                made.append(opened.tobytes())
        assert len(set(made)) == 3


def test_progress_and_previews_are_of_our_own_prompt(broker: Valkey, comfyui: ComfyUI) -> None:
    with comfy_worker(broker, comfyui.url) as worker:
        with comfyui.busy():
            task_id = accept(worker, body=fox(steps=60))
            end = outcome_of(lambda: worker.run(task_id))
            eventually(lambda: prompt_id_of(task_id, 1) in comfyui.queued()[1])
            # A neighbour's prompt runs.
            assert kinds(worker.records, task_id) == ["started"]
        end()
        reported = [json.loads(e.data) for e in worker.records.events(task_id) if e.kind == "progress"]
        assert [t["progress"] for t in reported] == sorted(t["progress"] for t in reported)
        assert {t["steps"] for t in reported if t["step"]} == {60}
        assert any(t["preview"] for t in reported)
        preview = worker.records.preview(task_id)
        assert preview is not None
        with Image.open(io.BytesIO(preview)) as opened:
            opened.load()


@pytest.mark.parametrize("socket", ["refused", "silent", "cut"])
def test_without_a_socket_http_tells_the_end(broker: Valkey, well: ComfyUI, socket: str) -> None:
    with comfy_worker(broker, well.url) as worker:
        well.set(socket=socket)
        task_id = accept(worker, body=fox())
        worker.run(task_id)
        assert (worker.ended(task_id), len(stored(worker, task_id))) == (("succeeded", "200"), 1)


def test_an_interrupted_render_has_the_images_that_were_made(broker: Valkey, comfyui: ComfyUI) -> None:
    with comfy_worker(broker, comfyui.url) as worker:
        task_id = accept(worker, body=fox(steps=40, n_iter=3))
        end = begin(worker, comfyui, task_id)
        done = '"job": 1'
        eventually(lambda: done in worker.records.get(task_id).get("progress", ""))
        worker.runtime.running.stop(task_id, StopReason.INTERRUPTED)
        end()
        assert worker.ended(task_id) == ("cancelled", "499")
        answer = answer_of(worker, task_id)[1]
        assert 1 <= len(answer["images"]) == len(stored(worker, task_id)) < 3
        info = json.loads(answer["info"])
        assert (info["partial"], len(info["all_seeds"])) == (True, len(answer["images"]))


def test_an_interrupt_that_comes_too_late_leaves_all(
    broker: Valkey, comfyui: ComfyUI, monkeypatch: pytest.MonkeyPatch
) -> None:
    with comfy_worker(broker, comfyui.url) as worker:
        task_id = accept(worker, body=fox(steps=40))
        # The last node runs to its end, and then the interrupt is lost.
        monkeypatch.setattr(ComfyWire, "interrupt", lambda *_: None)
        end = begin(worker, comfyui, task_id)
        worker.runtime.running.stop(task_id, StopReason.INTERRUPTED)
        end()
        assert worker.ended(task_id) == ("succeeded", "200")
        assert "partial" not in json.loads(answer_of(worker, task_id)[1]["info"])


@pytest.mark.parametrize("waits", [True, False])
def test_a_cancel_ends_our_prompt_and_no_neighbour_s(broker: Valkey, comfyui: ComfyUI, *, waits: bool) -> None:
    with comfy_worker(broker, comfyui.url) as worker:
        task_id = accept(worker, body=fox(steps=140))
        if waits:
            with comfyui.busy() as neighbour:
                end = outcome_of(lambda: worker.run(task_id))
                eventually(lambda: prompt_id_of(task_id, 1) in comfyui.queued()[1])
                worker.runtime.running.stop(task_id, StopReason.CANCELLED)
                end()
                assert comfyui.queued() == ([neighbour], [])
        else:
            end = begin(worker, comfyui, task_id)
            neighbour = comfyui.accept(still())
            worker.runtime.running.stop(task_id, StopReason.CANCELLED)
            end()
            assert eventually(lambda: comfyui.history(neighbour))["status"]["status_str"] == "success"
        assert (worker.ended(task_id), stored(worker, task_id)) == (("cancelled", "499"), [])


def test_an_old_server_is_never_interrupted(broker: Valkey, tmp_path: Path) -> None:
    with running("--comfyui-version", "0.3.40", base=tmp_path) as old, comfy_worker(broker, old.url) as worker:
        task_id = accept(worker, body=fox())
        worker.run(task_id)
        # It chooses the ids of prompts itself: what it does cannot be followed.
        assert worker.ended(task_id) == ("failed", "502")
        assert "/interrupt" not in json.dumps(old.get("/double"))


def test_what_an_earlier_attempt_has_sent_is_not_sent_again(broker: Valkey, comfyui: ComfyUI) -> None:
    with comfy_worker(broker, comfyui.url) as worker:
        engine: Any = worker.runtime.engine
        assert isinstance(engine, ComfyEngine)
        first = worker.claim(kind="sd.txt2img", mode="plain", queue="sd", body=fox(seed=3, steps=20))
        plan = engine._read("txt2img", RenderJob("", first.body, first.task_id, 1))
        # Its worker dies behind the POST.
        sent = comfyui.accept(plan.build({}, "lost"), prompt_id=prompt_id_of(first.task_id, 1), client_id=str(uuid4()))
        worker.records.release(first)
        worker.run(first.task_id)
        assert (worker.ended(first.task_id), len(stored(worker, first.task_id))) == (("succeeded", "200"), 1)
        assert comfyui.history(sent)["status"]["status_str"] == "success"
        assert comfyui.history(prompt_id_of(first.task_id, 2)) is None


def test_a_server_that_dies_hands_its_render_back_and_it_is_made_once(broker: Valkey, tmp_path: Path) -> None:
    with running("--step-s", "0.02", base=tmp_path) as mortal, comfy_worker(broker, mortal.url) as worker:
        port = int(mortal.url.rpartition(":")[2])
        task_id = accept(worker, body=fox(steps=140))
        end = begin(worker, mortal, task_id)
        assert mortal.process is not None
        mortal.process.kill()
        mortal.process.wait()
        with pytest.raises(Reject):
            end()
        assert (worker.ended(task_id), worker.runtime.ready) == (("queued", ""), False)
        with running("--step-s", "0.001", base=tmp_path, port=port):
            eventually(lambda: worker.supervisor.step(1e6) == "ready")
            worker.run(task_id)
        assert (worker.ended(task_id), len(stored(worker, task_id))) == (("succeeded", "200"), 1)


def test_a_prompt_that_a_server_has_lost_is_handed_back(broker: Valkey, comfyui: ComfyUI) -> None:
    with comfy_worker(broker, comfyui.url) as worker, comfyui.busy():
        task_id = accept(worker, body=fox())
        end = outcome_of(lambda: worker.run(task_id))
        eventually(lambda: prompt_id_of(task_id, 1) in comfyui.queued()[1])
        # As after a restart: neither the queue nor the history has it.
        comfyui.call("POST", "/queue", {"delete": [prompt_id_of(task_id, 1)]})
        with pytest.raises(Reject):
            end()
        assert worker.ended(task_id) == ("queued", "")


@pytest.mark.parametrize(
    ("lie", "status"),
    [
        ("path_in_filename", "502"),
        ("no_image", "502"),
        ("html_image", "502"),
        ("huge_history", "502"),
        ("deep_json", "502"),
        ("html", "502"),
        ("no_outputs", "502"),
        ("wrong_id", "502"),
    ],
)
def test_a_lying_server_makes_nothing_of_it(broker: Valkey, well: ComfyUI, lie: str, status: str) -> None:
    with comfy_worker(broker, well.url) as worker:
        well.set(lie=lie)
        task_id = accept(worker, body=fox())
        worker.run(task_id)
        assert (worker.ended(task_id), stored(worker, task_id)) == (("failed", status), [])
        assert b"/" not in worker.records.events(task_id)[-1].data.partition(b"message")[2]


@pytest.mark.parametrize("lie", ["big_preview", "broken_preview", "broken_messages"])
def test_broken_messages_change_nothing(broker: Valkey, well: ComfyUI, lie: str) -> None:
    with comfy_worker(broker, well.url) as worker:
        well.set(lie=lie)
        task_id = accept(worker, body=fox())
        worker.run(task_id)
        assert (worker.ended(task_id), len(stored(worker, task_id))) == (("succeeded", "200"), 1)


@pytest.mark.parametrize(("fail", "kind"), [("error", "engine_error"), ("oom", "engine_out_of_memory")])
def test_a_failure_is_told_without_the_engine_s_own_words(broker: Valkey, well: ComfyUI, fail: str, kind: str) -> None:
    with comfy_worker(broker, well.url) as worker:
        well.set(fail=fail)
        task_id = accept(worker, body=fox())
        worker.run(task_id)
        assert worker.ended(task_id) == ("failed", "500")
        error = answer_of(worker, task_id)[1]["error"]
        assert error["type"] == kind
        assert "KSampler" in error["message"]
        assert "Traceback" not in json.dumps(error)


def test_an_operator_s_workflow_is_filled_run_and_kept(broker: Valkey, comfyui: ComfyUI, tmp_path: Path) -> None:
    (tmp_path / "tinted.json").write_text(json.dumps(TINTED))
    (tmp_path / "broken.json").write_text('{"1": {"class_type": "Nobody", "inputs": {}}}')
    with comfy_worker(broker, comfyui.url, comfyui_workflows=str(tmp_path)) as worker:
        listed = json.loads(catalog_of(worker)["workflows"])
        assert list(listed) == ["tinted"]
        schema = listed["tinted"]["input"]
        assert schema["required"] == ["image"]
        assert schema["properties"]["bits"] == {
            "x-input": "bits", "type": "integer", "minimum": 1, "maximum": 8, "default": 4,
        }  # fmt: skip
        assert schema["properties"]["style"]["enum"] == ["plain", "poster"]
        task_id = workflow_task(worker, "tinted", image=encoded(picture("blue", size=(32, 32))), inverted=True)
        worker.run(task_id)
        assert worker.ended(task_id) == ("succeeded", "200")
        answer = answer_of(worker, task_id)[1]
        info = json.loads(answer["info"])
        assert (info["workflow"], answer["parameters"]) == ("tinted", {"inverted": True})
        assert answer["workflow"]["2"]["inputs"]["inverted"] is True
        with Image.open(io.BytesIO(stored(worker, task_id)[0])) as opened:
            assert opened.convert("RGB").getpixel((3, 3)) == (255, 255, 0)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({}, "input.image"),
        ({"image": "no base64!"}, "input.image"),
        ({"image": "mine.png"}, "input.image"),
        ({"image": encoded(picture()), "bits": 9}, "input.bits"),
        ({"image": encoded(picture()), "bits": "4"}, "input.bits"),
        ({"image": encoded(picture()), "style": "cubist"}, "plain"),
        ({"image": encoded(picture()), "stile": "plain"}, "style"),
        ({"image": encoded(picture()), "inverted": 1}, "input.inverted"),
    ],
)
def test_an_input_that_a_workflow_does_not_take_is_400(
    broker: Valkey, comfyui: ComfyUI, tmp_path: Path, values: dict[str, Any], named: str
) -> None:
    (tmp_path / "tinted.json").write_text(json.dumps(TINTED))
    with comfy_worker(broker, comfyui.url, comfyui_workflows=str(tmp_path)) as worker:
        task_id = workflow_task(worker, "tinted", **values)
        worker.run(task_id)
        assert worker.ended(task_id) == ("failed", "400")
        assert named in answer_of(worker, task_id)[1]["error"]["message"]
