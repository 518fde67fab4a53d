"""Which requests the data plane keeps for previews, and what of them."""

import pytest
from recommending import GET, many, offering, stage

from proxy.core.inputs import Input
from proxy.core.policy import Toggles
from proxy.core.routing import SALT, bucket
from proxy.dataplane.sampling import Sampling

SOURCE = offering(*many("cf", 20))


@pytest.fixture
def kept():
    return []


def staged(kept, **more):
    return stage(SOURCE, SOURCE, sampling=Sampling(kept.append, 0.0, per_s=50), **more)


async def test_a_request_is_kept_with_all_that_it_was_decided_by(kept):
    async with staged(kept) as rig:
        await rig.recommend(2, b"", b"X-Region: eu\r\nX-Cohort: heavy\r\nX-Client: tv\r\n")
    (one,) = kept
    assert one == Input("films", (b"7", b"eu", b"heavy", b"tv"), b"7", bucket(b"7", SALT), 1, one.at)


async def test_without_a_user_the_request_is_its_own_key(kept):
    async with staged(kept) as rig:
        await rig.ask(b"GET /recommendations?k=2 HTTP/1.1\r\nHost: x\r\nX-Request-Id: r7\r\n\r\n")
    (one,) = kept
    assert (one.who.user, one.key, one.bucket) == (b"", b"r7", bucket(b"r7", SALT))


async def test_also_while_killed_so_that_a_release_can_be_previewed(kept):
    async with staged(kept, toggles=Toggles(kill_switch=True)) as rig:
        await rig.recommend(2)
    assert [one.key for one in kept] == [b"7"]


async def test_what_does_not_come_to_a_decision_is_not_kept(kept):
    async with staged(kept) as rig:
        await rig.ask(b"GET /elsewhere HTTP/1.1\r\nHost: x\r\n\r\n")
        await rig.ask(b"POST /recommendations HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    assert kept == []


async def test_who_is_overridden_is_not_kept(kept):
    async with staged(kept, signing_key=b"k" * 32) as rig:
        for fields in (b"X-Fusebox-Override: none\r\n", b""):
            await rig.ask(GET % (1, b"", fields))
    assert len(kept) == 1


async def test_under_load_it_is_a_sample_whose_weights_are_all_requests(kept):
    async with staged(kept, toggles=Toggles(kill_switch=True)) as rig:
        wire = await rig.client()
        for _ in range(20):
            wire.send(GET % (1, b"", b"") * 100)
            for _ in range(100):
                await wire.response()
        left = rig.plane._sampling._gap - rig.plane._sampling.left
    assert len(kept) < 1_500  # a machine that is slow as well keeps more of them
    assert sum(one.weight for one in kept) + left == 2_000
