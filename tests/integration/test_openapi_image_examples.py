"""The commands of /openapi.json and /docs for images and batches, run as they stand there against real processes."""

from __future__ import annotations

from pathlib import Path

from graycat.web.openapi.examples import BODIES
from tests.support.document_commands import run_groups
from tests.support.images import ImageStack
from tests.support.webuis import picture

#: What needs an admin, and what depends on how far the batch is.
OTHERWISE = {
    "sdapiSetOptions": {403},
    **{f"sdapiRefresh{name}": {403} for name in ("Checkpoints", "Vae", "Loras", "Embeddings")},
    **{f"sdapi{name}Checkpoint": {403} for name in ("Unload", "Reload")},
    **dict.fromkeys(("batchesPause", "batchesResume", "batchesRetryFailed"), {200, 409}),
    **dict.fromkeys(("batchesImage", "galleryImage", "galleryThumbnail"), {200, 404}),
}


def test_every_command_for_images_is_answered_as_the_document_tells(studio: ImageStack, tmp_path: Path) -> None:
    client = studio.client()
    file = tmp_path / "image.png"
    file.write_bytes(picture(size=(64, 64)))
    batch = client.post("/batches", BODIES["/batches"]).json()["id"]
    values = {"BATCH_ID": batch, "@image.png": f"@{file}"}
    ran = run_groups(client, frozenset({"Images", "WebUI", "Batches", "Schedules"}), OTHERWISE, values)
    assert len(ran) > 50
    assert set(OTHERWISE) < set(ran)
