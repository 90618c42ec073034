"""The work of one generation: batch by batch, step by step, until it is done or told to stop."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from PIL import Image

from graycat.engines.placeholder import draw, imagefiles
from graycat.engines.placeholder.jobs import Jobs, in_thread
from graycat.engines.placeholder.plan import Plan
from graycat.engines.placeholder.sources import Size

#: A preview's sides are this much smaller than the image's.
PREVIEW_DIVISOR = 4


@dataclass
class Processed:
    """What came out. ``images``: with the infotext that each carries; masks carry none."""

    images: list[tuple[Image.Image, str | None]] = field(default_factory=list)
    infotexts: list[str] = field(default_factory=list)
    index_of_first_image: int = 0


class Generation:
    """Makes the images of a plan while it is the running job."""

    def __init__(self, plan: Plan, jobs: Jobs) -> None:
        self.plan, self.jobs, self.options = plan, jobs, plan.options
        self.passes = plan.steps()
        self.processed = Processed()

    def run(self) -> Processed:
        """Make every batch, or as many as there are before the interrupt."""
        plan, state = self.plan, self.jobs.state
        self.jobs.prepare()
        state.job_count = plan.n_iter * len(self.passes)
        for number in range(plan.n_iter):
            state.skipped = False
            if state.interrupted:
                break
            if plan.n_iter > 1:
                state.job = f"Batch {number + 1} out of {plan.n_iter}"
            self._batch(number * plan.batch_size)
        if plan.fields["save_images"] and self.options["return_grid"] and len(self.processed.images) > 1:
            self._add_grid()
        return self.processed

    def _batch(self, first: int) -> None:
        """Make the images from number ``first`` on; those of a batch that was stopped are unfinished."""
        plan, state = self.plan, self.jobs.state
        done, size = 0, plan.size
        for number, steps in enumerate(self.passes):
            if number:
                if state.interrupted:
                    break  # the image stays small
                state.next_batch()
                plan.check_second_pass()
                size = plan.final_size
            state.preview = partial(self._preview, first, size, done)
            done += self.jobs.sample(steps)
        share = self._share(done) if state.stopped else 1.0
        for index in range(first, first + plan.batch_size):
            image = in_thread(draw.draw, plan.picture(index), size, share, plan.source(index))
            self._add(image, plan.infotext(index))
            self.processed.images += [(extra, None) for extra in self._masks(image, index)]
        state.next_batch()

    def _share(self, done: int) -> float:
        return min(done / max(sum(self.passes), 1), 1.0)

    def _preview(self, first: int, size: Size, done: int) -> str:
        """Return the running batch as it is now; called in a thread. ``done``: steps of the passes before."""
        small = (max(1, size[0] // PREVIEW_DIVISOR), max(1, size[1] // PREVIEW_DIVISOR))
        share = min(self._share(done + self.jobs.state.sampling_step), 0.99)
        numbers = range(first, first + (self.plan.batch_size if self.options["show_progress_grid"] else 1))
        images = [draw.draw(self.plan.picture(n), small, share, self.plan.source(n)) for n in numbers]
        return imagefiles.encode(draw.grid(images), self.options["samples_format"], int(self.options["jpeg_quality"]))

    def _add(self, image: Image.Image, text: str, at: int | None = None) -> None:
        """Add an image and its infotext, at the end unless said otherwise."""
        at = len(self.processed.images) if at is None else at
        self.processed.infotexts.insert(at, text)
        self.processed.images.insert(at, (image, text if self.options["enable_pnginfo"] else None))

    def _masks(self, image: Image.Image, index: int) -> list[Image.Image]:
        source = self.plan.source(index)
        if source is None or source.mask is None:
            return []
        masks = [source.mask.convert("RGB")] if self.options["return_mask"] else []
        if self.options["return_mask_composite"]:
            composite = image.convert("RGBA")
            composite.putalpha(source.mask)
            masks.append(composite)
        return masks

    def _add_grid(self) -> None:
        rows = int(self.options["n_rows"])
        images = [image for image, _ in self.processed.images]
        sheet = in_thread(draw.grid, images, self.plan.batch_size if rows == 0 else max(rows, 0))
        self._add(sheet, self.plan.infotext(0), at=0)
        self.processed.index_of_first_image = 1
