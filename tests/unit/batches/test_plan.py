from __future__ import annotations

from typing import Any

from graycat.batches import spec
from graycat.batches.plan import Item, PaddedInt, estimate_work, expand
from graycat.settings import Settings


def items(entropy: str = "e", **fields: Any) -> list[Item]:
    return expand(spec.parse({"name": "X"} | fields, Settings()), "b1", entropy)


def seeds(**fields: Any) -> list[int]:
    return [item.seed for item in items(**fields)]


def test_the_same_spec_and_entropy_are_the_same_items() -> None:
    assert items(items=["a", "b"]) == items(items=["a", "b"])
    assert items(items=["a", "b"]) != items("other", items=["a", "b"])


def test_seeds_by_policy() -> None:
    assert len(set(seeds(items=["a"] * 50))) == 50
    assert seeds(items=["a", "b"], seeds={"policy": "fixed", "seed": 5}) == [5, 5]
    assert seeds(items=["a", "b"], seeds={"policy": "fixed", "seed": 5}, count=2) == [5, 6, 5, 6]
    assert seeds(items=["a", "b"], seeds={"policy": "per_item", "seed": 5}, count=2) == [5, 6, 7, 8]
    own = [{"prompt": "a", "seed": 9}, {"prompt": "b", "seed": -1}]
    assert seeds(items=own, seeds={"policy": "fixed", "seed": 1}) == [9, 1]
    assert seeds(items=[{"prompt": "a", "seed": 2**32 - 1}], count=2) == [2**32 - 1, 0]


def test_before_it_runs_random_seeds_are_open() -> None:
    (item,) = items("", items=["a"])
    assert (item.seed, item.file) == (-1, "1-random-a")


def test_files_have_names_of_their_own_even_where_the_pattern_gives_none() -> None:
    files = [item.file for item in items(items=["A", "a", "b"], output={"pattern": "{prompt_slug}"}, count=2)]
    assert files == ["a", "a-2", "a-3", "a-4", "b", "b-6"]
    assert len({file.casefold() for file in files}) == len(files)


def test_numbers_have_as_many_digits_as_the_last() -> None:
    files = [item.file for item in items(items=["a"] * 12, output={"pattern": "{item}"})]
    assert files == [f"{number:02}" for number in range(1, 13)]
    assert f"{PaddedInt(7, 3)} {PaddedInt(7, 3):05d}" == "007 00007"


def test_a_pattern_may_name_any_field_of_the_request() -> None:
    (item,) = items(items=[{"prompt": "a", "cfg_scale": 7.5, "seed": 3}], output="f")
    assert item.file == "1-3-a"
    named = {"folder": "f", "pattern": "{name}/{cfg_scale}-{steps}-{width}x{height}-{variation}.{ext}"}
    (item,) = items(items=[{"prompt": "a", "cfg_scale": 7.5}], output=named)
    assert item.file == "x/7.5-50-512x512-1"


def test_fields_for_names_of_files_are_not_sent_to_engines() -> None:
    fields: dict[str, Any] = {"items": [{"prompt": "a", "hero": "gimli", "tone": 2, "steps": 3}]}
    document = {"name": "x", "output": {"pattern": "{hero}-{tone}-{steps}"}} | fields
    # ``tone`` is known to the operator's engine.
    (item,) = expand(spec.parse(document, Settings(sd_fields="tone")), "b", "e")
    assert item.file == "gimli-2-3"
    assert item.request.keys() == {"prompt", "steps", "tone", "seed", "save_images"}


def test_prompts_that_were_written_take_their_places() -> None:
    wanted = spec.parse({"name": "x", "matrix": {"steps": [1, 2]}, "prompts": {"ask": "x", "count": 2}}, Settings())
    made = expand(wanted, "b", "e", ("p", "q"))
    assert [(item.request["steps"], item.prompt) for item in made] == [(1, "p"), (1, "q"), (2, "p"), (2, "q")]


def test_work_is_megapixels_times_steps() -> None:
    assert estimate_work({"width": 1000, "height": 1000, "steps": 20}) == 20
    assert estimate_work({"width": 1000, "height": 1000, "steps": 20, "enable_hr": True, "hr_scale": 2}) == 100
    assert estimate_work({"width": "no", "steps": None}) == 512 * 512 * 50 / 1e6


def test_an_item_comes_back_from_its_record() -> None:
    (item,) = items(items=[{"prompt": "a", "init_images": [PIXEL]}])
    assert Item.from_json(item.to_json()) == item
    assert item.kind == "sd.img2img"
    assert item.digest != items(items=["a"])[0].digest


PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAEklEQVR4nGP8z4APMOGVHbHSAEEsAROxCnMTAAAAAElFTkSuQmCC"
