from __future__ import annotations

import pytest

from graycat.auth.signed_links import SignedLinks
from graycat.auth.signing import SigningKey
from graycat.errors import Forbidden
from tests.support.clocks import Clock

BATCH = "0123456789abcdef"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def links(clock: Clock) -> SignedLinks:
    return SignedLinks(SigningKey("k" * 32), clock)


def test_a_link_opens_its_gallery_until_it_expires(links: SignedLinks, clock: Clock) -> None:
    signed = links.sign(BATCH, 60)
    links.check(BATCH, **signed)
    clock.forward(60)
    links.check(BATCH, **signed)
    clock.forward(1)
    with pytest.raises(Forbidden, match="expired"):
        links.check(BATCH, **signed)


@pytest.mark.parametrize("change", [{"expires": "9999999999"}, {"signature": "x"}, {"signature": ""}, {"expires": ""}])
def test_a_link_that_was_changed_opens_nothing(links: SignedLinks, change) -> None:
    with pytest.raises(Forbidden, match="is incomplete"):
        links.check(BATCH, **(links.sign(BATCH, 60) | change))


def test_a_link_opens_no_other_gallery_and_none_of_another_key(links: SignedLinks, clock: Clock) -> None:
    signed = links.sign(BATCH, 60)
    with pytest.raises(Forbidden):
        links.check("fedcba9876543210", **signed)
    with pytest.raises(Forbidden):
        SignedLinks(SigningKey("q" * 32), clock).check(BATCH, **signed)


def test_a_name_and_an_end_cannot_be_shifted_into_each_other(links: SignedLinks) -> None:
    signed = links.sign("a 1", 60)
    with pytest.raises(Forbidden):
        links.check("a", f"1 {signed['expires']}", signed["signature"] + "x")


def test_a_link_for_one_purpose_is_none_for_another(links: SignedLinks, clock: Clock) -> None:
    images = SignedLinks(SigningKey("k" * 32), clock, purpose="image")
    with pytest.raises(Forbidden, match="another image"):
        images.check(BATCH, **links.sign(BATCH, 60))
    images.check("x/0", **images.sign("x/0", 60))
