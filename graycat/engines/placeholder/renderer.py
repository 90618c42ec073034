"""What the routes do: one renderer with its options and its jobs."""

from __future__ import annotations

from typing import Any

from PIL import Image

from graycat.engines.placeholder import catalog, extras, imagefiles, init_images, plan
from graycat.engines.placeholder.errors import HTTPException
from graycat.engines.placeholder.generation import Generation, Processed
from graycat.engines.placeholder.infotext_fields import apply_infotext
from graycat.engines.placeholder.jobs import Jobs, run_in_thread
from graycat.engines.placeholder.options import Options
from graycat.images import infotext

CAPTION = "a picture that nobody has looked at: this is the placeholder renderer, it has no captioning model"

Body = dict[str, Any]


def check_scripts(fields: Body) -> None:
    """Raise HTTPException 422 for an unknown script. Only always-on scripts exist, none can be selected by name."""
    if fields["script_name"]:
        raise HTTPException(422, f"Script '{fields['script_name']}' not found")
    for name in fields["alwayson_scripts"]:
        if name.lower() not in catalog.SCRIPTS:
            raise HTTPException(422, f"Script '{name}' not found")


class Renderer:
    """The placeholder renderer. ``step_s``: seconds that a sampling step takes."""

    def __init__(self, step_s: float) -> None:
        self.options = Options()
        self.jobs = Jobs(step_s)

    def txt2img(self, fields: Body, sent: set[str]) -> Body:
        """Make images. ``sent``: the names of the fields that the request contained."""
        apply_infotext(fields, sent)
        check_scripts(fields)
        return self.generate("scripts_txt2img", fields)

    def img2img(self, fields: Body, sent: set[str]) -> Body:
        """Make images from init images. Raises HTTPException 404 if there are none."""
        if fields["init_images"] is None:
            raise HTTPException(404, "Init image not found")
        apply_infotext(fields, sent)
        check_scripts(fields)
        body = self.generate("scripts_img2img", fields)
        if not fields["include_init_images"]:
            body["parameters"]["init_images"] = None
            body["parameters"]["mask"] = None
        return body

    def generate(self, job: str, fields: Body) -> Body:
        """Make images when the lock is free; return the response."""
        overrides = fields["override_settings"] or {}
        mask = None
        if fields.get("mask"):
            mask = imagefiles.decode(fields["mask"])
        with self.jobs.run(job) as state:
            if overrides.get("sd_model_checkpoint") not in catalog.CHECKPOINT_ALIASES:
                # Upstream drops an unknown checkpoint silently, also from the parameters in the response.
                overrides.pop("sd_model_checkpoint", None)
            with self.options.override(overrides, restore=bool(fields["override_settings_restore_afterwards"])):
                # A copy: the parameters in the response are those of the request, without later changes.
                working_fields = dict(fields)
                images = self._read_init_images(working_fields, mask)
                request_plan = plan.Plan(working_fields, self.options, images)
                processed = Generation(request_plan, self.jobs).run()
                info = request_plan.info(processed.infotexts, processed.index_of_first_image, state.job_timestamp)
        # As upstream, the images are encoded after the lock is released and the options are restored.
        encoded: list[str] = []
        if fields["send_images"]:
            encoded = run_in_thread(_encode_images, processed, *self._output_format())
        return {"images": encoded, "parameters": dict(fields), "info": info}

    @staticmethod
    def _read_init_images(fields: Body, mask: Image.Image | None) -> list[init_images.InitImage]:
        if "init_images" not in fields:
            return []
        size = plan.round_size(fields["width"], fields["height"])
        return run_in_thread(init_images.read_init_images, fields, mask, size)

    def _output_format(self) -> tuple[str, int]:
        return self.options["samples_format"], int(self.options["jpeg_quality"])

    def extra_single(self, fields: Body) -> Body:
        """Upscale one image."""
        images, html = self._upscale([fields["image"]], fields)
        return {"html_info": html, "image": images[0]}

    def extra_batch(self, fields: Body) -> Body:
        """Upscale several images."""
        images, html = self._upscale([file["data"] for file in fields["imageList"]], fields)
        return {"html_info": html, "images": images}

    def _upscale(self, encoded: list[str], fields: Body) -> tuple[list[str], str]:
        """Return the upscaled images and an HTML text about what was done."""
        images = [imagefiles.decode(image) for image in encoded]
        text = ""
        with self.jobs.run("extras"):
            extras.check_upscalers(fields)
            self.jobs.prepare()
            samples_format, quality = self._output_format()
            results = []
            for image in images:
                upscaled, text = run_in_thread(extras.upscale, image, fields)
                results.append(run_in_thread(imagefiles.encode, upscaled, samples_format, quality))
        return results, f"<p>{text}</p>"

    def png_info(self, fields: Body) -> Body:
        """Read the infotext in an image file."""
        text, items = infotext.read(imagefiles.decode(fields["image"].strip()))
        return {"info": text, "items": items, "parameters": infotext.parse(text)}

    def interrogate(self, fields: Body) -> Body:
        """Return a caption saying that there is no captioning model. Raises HTTPException 404 for an unknown model."""
        image = imagefiles.decode(fields["image"])
        with self.jobs.run("interrogate"):
            self.jobs.prepare()
            run_in_thread(image.load)
            if fields["model"] not in ("clip", "deepdanbooru"):
                raise HTTPException(404, "Model not found")
        return {"caption": CAPTION}

    def progress(self, *, skip_current_image: bool) -> Body:
        """Return the progress of the running job, whichever request it belongs to."""
        state = self.jobs.state
        running = state.job_count != 0
        preview = None
        if running and self.options["live_previews_enable"]:
            # Drawn even if it is skipped in this response, as upstream does.
            preview = self.jobs.current_image(int(self.options["show_progress_every_n_steps"]))
        if skip_current_image or state.job_count == 0:
            preview = None
        progress, eta_s = state.progress()
        return {
            "progress": progress,
            "eta_relative": eta_s,
            "state": state.to_dict(),
            "current_image": preview,
            "textinfo": None,
        }


def _encode_images(processed: Processed, samples_format: str, quality: int) -> list[str]:
    return [imagefiles.encode(image, samples_format, quality, text) for image, text in processed.images]
