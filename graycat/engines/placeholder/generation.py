"""Runs one generation: batch by batch, step by step, until it is finished or stopped."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from PIL import Image

from graycat.engines.placeholder import draw, imagefiles
from graycat.engines.placeholder.imagefiles import Size
from graycat.engines.placeholder.jobs import Jobs, run_in_thread
from graycat.engines.placeholder.plan import Plan

#: A preview's sides are this many times smaller than the image's.
PREVIEW_DIVISOR = 4


@dataclass
class Processed:
    """The result. ``images``: each with the infotext that its file contains; masks have none."""

    images: list[tuple[Image.Image, str | None]] = field(default_factory=list)
    infotexts: list[str] = field(default_factory=list)
    index_of_first_image: int = 0


class Generation:
    """Makes the images of a plan while it is the running job."""

    def __init__(self, plan: Plan, jobs: Jobs) -> None:
        self.plan = plan
        self.jobs = jobs
        self.options = plan.options
        #: The number of steps of each pass.
        self.passes = plan.steps()
        self.processed = Processed()

    def run(self) -> Processed:
        """Make all batches, or those before an interrupt."""
        plan, state = self.plan, self.jobs.state
        self.jobs.prepare()
        state.job_count = plan.n_iter * len(self.passes)
        for number in range(plan.n_iter):
            state.skipped = False
            if state.interrupted:
                break
            if plan.n_iter > 1:
                state.job = f"Batch {number + 1} out of {plan.n_iter}"
            self._run_batch(number * plan.batch_size)
        if plan.fields["save_images"] and self.options["return_grid"] and len(self.processed.images) > 1:
            self._add_grid()
        return self.processed

    def _run_batch(self, first: int) -> None:
        """Make the batch whose first image has the index ``first``. If it is stopped, its images are unfinished."""
        plan, state = self.plan, self.jobs.state
        steps_done = 0
        size = plan.size
        for number, steps in enumerate(self.passes):
            if number:
                if state.interrupted:
                    break  # the image stays small
                state.next_batch()
                plan.check_second_pass()
                size = plan.final_size
            state.preview = partial(self._draw_preview, first, size, steps_done)
            steps_done += self.jobs.sample(steps)

        progress = 1.0
        if state.stopped:
            progress = self._progress(steps_done)
        for index in range(first, first + plan.batch_size):
            image = run_in_thread(draw.draw, plan.picture(index), size, progress, plan.init_image(index))
            self._add(len(self.processed.images), image, plan.infotext(index))
            for mask in self._make_masks(image, index):
                self.processed.images.append((mask, None))
        state.next_batch()

    def _progress(self, steps_done: int) -> float:
        return min(steps_done / max(sum(self.passes), 1), 1.0)

    def _draw_preview(self, first: int, size: Size, steps_done: int) -> str:
        """Return a preview of the running batch; called in a thread. ``steps_done``: in the passes before."""
        small = (max(1, size[0] // PREVIEW_DIVISOR), max(1, size[1] // PREVIEW_DIVISOR))
        progress = min(self._progress(steps_done + self.jobs.state.sampling_step), 0.99)
        count = 1
        if self.options["show_progress_grid"]:
            count = self.plan.batch_size
        images = []
        for index in range(first, first + count):
            images.append(draw.draw(self.plan.picture(index), small, progress, self.plan.init_image(index)))
        quality = int(self.options["jpeg_quality"])
        return imagefiles.encode(draw.make_grid(images), self.options["samples_format"], quality)

    def _add(self, position: int, image: Image.Image, text: str) -> None:
        """Insert an image and its infotext."""
        self.processed.infotexts.insert(position, text)
        text_in_file = None
        if self.options["enable_pnginfo"]:
            text_in_file = text
        self.processed.images.insert(position, (image, text_in_file))

    def _make_masks(self, image: Image.Image, index: int) -> list[Image.Image]:
        """Return the mask and the masked image, if the options ask for them."""
        init_image = self.plan.init_image(index)
        if init_image is None or init_image.mask is None:
            return []
        masks = []
        if self.options["return_mask"]:
            masks.append(init_image.mask.convert("RGB"))
        if self.options["return_mask_composite"]:
            composite = image.convert("RGBA")
            composite.putalpha(init_image.mask)
            masks.append(composite)
        return masks

    def _add_grid(self) -> None:
        rows = int(self.options["n_rows"])
        if rows == 0:
            rows = self.plan.batch_size
        images = [image for image, _ in self.processed.images]
        sheet = run_in_thread(draw.make_grid, images, max(rows, 0))
        self._add(0, sheet, self.plan.infotext(0))
        self.processed.index_of_first_image = 1
