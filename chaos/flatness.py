"""Whether something that was measured again and again has grown: a robust line through the measurements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

#: So many medians of the distance from the line are noise (3 standard deviations, if it is normal).
NOISE_FACTOR = 3 * 1.4826
#: Pairs further apart than this part of the whole time make the slope: near ones tell little but noise.
LEAST_DISTANCE = 0.2
#: Growth that tells nothing, however calm the rest is: by the first word of a name, as a part and in its unit.
ALLOWED: Mapping[str, tuple[float, float]] = {
    # Allocators take memory in steps, and Python's pools fill for a long time.
    "memory": (0.05, 4.0),
    "threads": (0.0, 2.0),
    "files": (0.0, 4.0),
    "keys": (0.1, 20.0),
}

#: A sample: seconds, and what was measured by name.
Sample = tuple[float, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Growth:
    """How something has changed from the end of the warm-up to the end: by the line, not by two points."""

    name: str
    median: float
    grown: float
    noise: float
    allowed: float

    @property
    def is_flat(self) -> bool:
        """Return whether it has not grown more than noise explains."""
        return self.grown <= max(self.noise, self.allowed)


def measure(samples: Sequence[Sample], warm_up: float) -> list[Growth]:
    """Return how each thing has grown after the warm-up, which is a part of the whole time."""
    if not samples:
        return []
    begin, end = samples[0][0], samples[-1][0]
    later = [sample for sample in samples if sample[0] >= begin + (end - begin) * warm_up]
    growths = []
    for name in sorted({name for _, amounts in later for name in amounts}):
        points = [(at, amounts.get(name, 0.0)) for at, amounts in later]
        growths.append(_measure_one(name, points))
    return growths


def _measure_one(name: str, points: Sequence[tuple[float, float]]) -> Growth:
    span = points[-1][0] - points[0][0]
    slope = slope_of(points)
    middle = median(amount for _, amount in points)
    base = median(amount - slope * at for at, amount in points)
    noise = NOISE_FACTOR * median(abs(amount - slope * at - base) for at, amount in points)
    part, least = ALLOWED[name.split()[0]]
    return Growth(name, middle, slope * span, noise, max(part * middle, least))


def slope_of(points: Sequence[tuple[float, float]]) -> float:
    """Return the median slope of all pairs that are far enough apart (Theil and Sen); 0 for too few points."""
    if len(points) < 3:
        return 0.0
    least = (points[-1][0] - points[0][0]) * LEAST_DISTANCE
    slopes = []
    # Of thousands of points every pair would be millions.
    step = max(len(points) // 300, 1)
    thinned = points[::step]
    for index, (at, amount) in enumerate(thinned):
        for later, other in thinned[index + 1 :]:
            if later - at >= max(least, 1e-9):
                slopes.append((other - amount) / (later - at))
    return median(slopes) if slopes else 0.0
