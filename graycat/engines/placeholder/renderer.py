"""What the routes do: one renderer, its settings and its jobs."""

from __future__ import annotations

from typing import Any

from graycat.engines.placeholder import catalog, extras, imagefiles, plan, sources
from graycat.engines.placeholder.errors import HTTPException
from graycat.engines.placeholder.filling import fill
from graycat.engines.placeholder.generation import Generation, Processed
from graycat.engines.placeholder.jobs import Jobs, in_thread
from graycat.engines.placeholder.options import Options
from graycat.images import infotext

CAPTION = "a picture that nobody has looked at: this is the placeholder renderer, it has no captioning model"

Body = dict[str, Any]


def check_scripts(fields: Body) -> None:
    """Raise HTTPException 422 for a script that is not there; none is selectable."""
    names = [fields["script_name"]] if fields["script_name"] else []
    names += [name for name in fields["alwayson_scripts"] if name.lower() not in catalog.SCRIPTS]
    if names:
        raise HTTPException(422, f"Script '{names[0]}' not found")


class Renderer:
    """The placeholder renderer. ``step_s``: seconds that a sampling step takes."""

    def __init__(self, step_s: float) -> None:
        self.options = Options()
        self.jobs = Jobs(step_s)

    def txt2img(self, fields: Body, given: set[str]) -> Body:
        """Make images. ``given``: the names of the fields that the request had."""
        fill(fields, given)
        check_scripts(fields)
        return self.generate("scripts_txt2img", fields)

    def img2img(self, fields: Body, given: set[str]) -> Body:
        """Make images from images. Raises HTTPException 404 without any."""
        if fields["init_images"] is None:
            raise HTTPException(404, "Init image not found")
        fill(fields, given)
        check_scripts(fields)
        body = self.generate("scripts_img2img", fields)
        if not fields["include_init_images"]:
            body["parameters"] |= {"init_images": None, "mask": None}
        return body

    def generate(self, job: str, fields: Body) -> Body:
        """Make images in turn, and the response about them."""
        overrides = fields["override_settings"] or {}
        mask = imagefiles.decode(fields["mask"]) if fields.get("mask") else None
        with self.jobs.running(job) as state:
            if overrides.get("sd_model_checkpoint") not in catalog.CHECKPOINT_ALIASES:
                # An unknown checkpoint goes without a word, also from the echo.
                overrides.pop("sd_model_checkpoint", None)
            with self.options.overridden(overrides, restore=bool(fields["override_settings_restore_afterwards"])):
                # A copy: the echo shows the request, not what became of it.
                working, begin_with = dict(fields), []
                if "init_images" in fields:
                    size = plan.cut(fields["width"], fields["height"])
                    begin_with = in_thread(sources.from_fields, working, mask, size)
                planned = plan.Plan(working, self.options, begin_with)
                processed = Generation(planned, self.jobs).run()
                info = planned.info(processed.infotexts, processed.index_of_first_image, state.job_timestamp)
        # The lock is free by now, and the settings are back: so it is upstream.
        images = self._encoded(processed) if fields["send_images"] else []
        return {"images": images, "parameters": dict(fields), "info": info}

    def _encoded(self, processed: Processed) -> list[str]:
        kind, quality = self.options["samples_format"], int(self.options["jpeg_quality"])
        return in_thread(lambda: [imagefiles.encode(image, kind, quality, text) for image, text in processed.images])

    def extra_single(self, fields: Body) -> Body:
        """Upscale an image."""
        images, html = self._upscaled([fields["image"]], fields)
        return {"html_info": html, "image": images[0]}

    def extra_batch(self, fields: Body) -> Body:
        """Upscale images."""
        images, html = self._upscaled([file["data"] for file in fields["imageList"]], fields)
        return {"html_info": html, "images": images}

    def _upscaled(self, encoded: list[str], fields: Body) -> tuple[list[str], str]:
        images, text = [imagefiles.decode(image) for image in encoded], ""
        with self.jobs.running("extras"):
            extras.check_upscalers(fields)
            self.jobs.prepare()
            kind, quality = self.options["samples_format"], int(self.options["jpeg_quality"])
            results = []
            for image in images:
                upscaled, text = in_thread(extras.upscale, image, fields)
                results.append(in_thread(imagefiles.encode, upscaled, kind, quality))
        return results, f"<p>{text}</p>"

    def png_info(self, fields: Body) -> Body:
        """Read what is kept in an image."""
        text, items = infotext.read(imagefiles.decode(fields["image"].strip()))
        return {"info": text, "items": items, "parameters": infotext.parse(text)}

    def interrogate(self, fields: Body) -> Body:
        """Say that nobody can say what an image shows. Raises HTTPException 404 for an unknown model."""
        image = imagefiles.decode(fields["image"])
        with self.jobs.running("interrogate"):
            self.jobs.prepare()
            in_thread(image.load)
            if fields["model"] not in ("clip", "deepdanbooru"):
                raise HTTPException(404, "Model not found")
        return {"caption": CAPTION}

    def progress(self, *, skip_current_image: bool) -> Body:
        """Tell of the running job, whoever's it is."""
        state = self.jobs.state
        image = None
        if state.job_count != 0 and self.options["live_previews_enable"]:
            image = self.jobs.current_image(int(self.options["show_progress_every_n_steps"]))
        share, eta_s = state.progress()
        return {
            "progress": share,
            "eta_relative": eta_s,
            "state": state.shown(),
            "current_image": None if skip_current_image or state.job_count == 0 else image,
            "textinfo": None,
        }
