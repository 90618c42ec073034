"""Batches on the real stack: beside interactive work, by cron as the docs say, with prompts that a model writes."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from graycat.batches import spec
from graycat.batches.runner.written_prompts import is_usable
from graycat.settings import Settings
from tests.conftest import NewHome
from tests.support.images import BERT, ImageStack, Picture
from tests.support.processes import SLACK_S, eventually
from tests.support.stack import BIN, ROOT, Client, running

DOCS = (ROOT / "docs" / "batches.md").read_text()
CRONTAB, TAVERN = (
    re.findall(rf"^```{kind}\n(.*?)^```$", DOCS, re.DOTALL | re.MULTILINE)[0] for kind in ("crontab", "toml")
)
#: Seconds until a batch of small images has surely ended.
END_S = 100.0
#: A step of the engine, and the steps of an item: an image takes a fifth of a second.
STEP_S, STEPS = 0.02, 8
SMALL = {"width": 64, "height": 64, "steps": STEPS}


@pytest.fixture(scope="module")
def workshop(new_home: NewHome) -> Iterator[ImageStack]:
    """Yield a stack with both kinds of engine."""
    env = {"RUN_LLM": "true", "GRAYCAT_LLM_SLOTS": "1"}
    with running(ImageStack(new_home(), env=env, step_s=STEP_S)) as started:
        yield started


@pytest.fixture
def anna(workshop: ImageStack) -> Client:
    return workshop.client()


def ended(client: Client, batch_id: str, timeout_s: float = END_S) -> dict[str, Any]:
    """Return a batch once it has ended."""

    def look() -> dict[str, Any]:
        found: dict[str, Any] = client.get(f"/batches/{batch_id}").json()
        return found if found["state"] in ("succeeded", "failed", "cancelled") else {}

    return eventually(look, timeout_s, 0.1)


def folder_of(stack: ImageStack, batch: dict[str, Any]) -> Path:
    return stack.home / "batches" / str(batch["folder"])


def manifest_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


def test_an_interactive_image_waits_for_the_one_that_is_rendered_and_no_other(
    workshop: ImageStack, anna: Client
) -> None:
    count = 40
    document = {"name": "night", "items": [f"night {n}" for n in range(count)], "defaults": SMALL}
    batch_id = anna.post("/batches", document).json()["id"]
    bert = workshop.caller(BERT)
    orders: list[dict[str, Any]] = []
    while anna.get(f"/batches/{batch_id}").json()["state"] in ("queued", "running"):
        answer = bert.post("/tasks", {"kind": "sd.txt2img", "input": SMALL | {"prompt": f"game {len(orders)}"}})
        orders.append(eventually(partial(_done, bert, answer.headers["Location"]), SLACK_S))
    assert ended(anna, batch_id)["progress"]["done"] == count
    assert len(orders) > 4
    starts = [line["started_ms"] for line in manifest_of(folder_of(workshop, anna.get(f"/batches/{batch_id}").json()))]
    overtaken = [sum(task["submitted_ms"] < at < task["started_ms"] for at in starts) for task in orders]
    # One may have been taken from its queue in the very moment.
    assert max(overtaken) <= 1
    assert sum(overtaken) <= len(orders) / 4
    # And the batch had the engine in between: nobody asked for more than one image at a time.
    assert len([prompt for prompt in workshop.asked() if prompt.startswith("night ")]) == count


def _done(client: Client, path: str) -> dict[str, Any]:
    task: dict[str, Any] = client.get(path, params={"wait": "10"}).json()
    return task if task["state"] == "succeeded" else {}


def test_every_image_can_be_made_again_from_its_line(workshop: ImageStack, anna: Client) -> None:
    document = {"name": "again", "matrix": {"prompt": ["a knight", "a thief"], "seed": [1, 2]}, "defaults": SMALL}
    batch = ended(anna, anna.post("/batches", document).json()["id"])
    for line in manifest_of(folder_of(workshop, batch)):
        made = (folder_of(workshop, batch) / line["file"]).read_bytes()
        assert sha256(made).hexdigest() == line["sha256"]
        (again,) = workshop.engine().post("/sdapi/v1/txt2img", line["request"]).json()["images"]
        assert Picture.of(again).image.tobytes() == Picture.of(made).image.tobytes()
        assert line["model_hash"]
        image = anna.get(f"/batches/{batch['id']}/items/{line['item']}/image")
        assert image.content == made


def cron(stack: ImageStack, line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a line of a crontab as cron does: by the shell, with almost no environment, % unescaped."""
    command = re.sub(r"^\s*(\S+\s+){5}", "", line).replace(r"\%", "%").replace("/opt/graycat", str(folder))
    kept = {name: value for name, value in stack.env.items() if name.startswith(("GRAYCAT_", "API_", "PORT"))}
    env = kept | {"PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(folder)}
    words = ["/bin/sh", "-c", command]
    return subprocess.run(words, env=env, cwd=folder, check=False, capture_output=True, text=True, timeout=60)


def test_the_crontab_of_the_docs_makes_one_batch_however_often_it_runs(
    workshop: ImageStack, anna: Client, tmp_path: Path
) -> None:
    # By night it would wait for its hour; and small, it is quick.
    small = TAVERN.replace('window = "01:00-06:00"', "").replace("512", "64").replace("768", "64").replace("20", "2")
    (tmp_path / "tavern.toml").write_text(small)
    (line,) = [line for line in CRONTAB.splitlines() if "graycat" in line and not line.startswith(("#", "PATH"))]
    before = len(anna.get("/batches").json()["batches"])
    for _ in range(2):
        ran = cron(workshop, line, tmp_path)
        # What a cron line prints, somebody is mailed.
        assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    batches = anna.get("/batches").json()["batches"]
    assert len(batches) == before + 1
    assert batches[0]["key"] == f"tavern-{time.strftime('%Y-%m-%d')}"
    assert ended(anna, batches[0]["id"])["progress"]["done"] == 8
    (tmp_path / "tavern.toml").write_text("name = ")
    ran = cron(workshop, line, tmp_path)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "tavern.toml" in ran.stderr


def test_the_spec_of_the_docs_is_one() -> None:
    parsed = spec.parse(spec.load(TAVERN, "toml"), Settings())
    assert (parsed.total, parsed.options.window) == (8, "01:00-06:00")


def test_a_model_writes_the_prompts_first(workshop: ImageStack, anna: Client) -> None:
    ask = {"ask": "portraits of guests in a tavern", "count": 2, "temperature": 0.9, "seed": 1}
    batch_id = anna.post("/batches", {"name": "guests", "prompts": ask, "defaults": SMALL}).json()["id"]
    batch = ended(anna, batch_id)
    if batch["state"] == "failed":
        # The smallest models may write nothing else than debris, and then nothing is rendered.
        assert "no usable ones" in batch["reason"]
        assert batch["progress"]["done"] == 0
        return
    assert batch["state"] == "succeeded", batch
    prompts = [line["prompt"] for line in manifest_of(folder_of(workshop, batch))]
    assert len(set(prompts)) == 2
    assert all(map(is_usable, prompts))
    assert json.loads((folder_of(workshop, batch) / "batch.json").read_text())["prompts"] == prompts
    # Neither what was asked nor what was written is in the log.
    assert not any(text in workshop.output for text in [*prompts, "guests in a tavern"])


def test_the_command_line_from_a_csv_file_to_the_images(workshop: ImageStack, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("prompt,steps\na knight,2\na thief,3\n")
    (tmp_path / "two.yaml").write_text("name: two\nitems: list.csv\ndefaults: {width: 64, height: 64}\n")

    def graycat(*words: str) -> str:
        command = [str(BIN / "graycat"), "batch", *words]
        done = subprocess.run(
            command, cwd=tmp_path, env=workshop.env, check=False, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "GPU time: about" in graycat("submit", "two.yaml", "--dry-run")
    batch_id = graycat("submit", "two.yaml", "--wait").strip()
    graycat("export", batch_id, "here")
    assert len(list((tmp_path / "here").glob("*.png"))) == len(manifest_of(tmp_path / "here")) == 2
    assert shlex.join(graycat("list", "--limit", "1").split()[:2]) == f"{batch_id} succeeded"
