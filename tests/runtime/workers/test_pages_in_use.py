"""Pages of one answer from workers that share nothing but a key."""

from proxy.core.roles import Role


async def test_nothing_comes_twice_over_workers_and_over_a_kill(box):
    box.options = ("--workers", "2")
    await box.start()
    shown, cursor, policies, workers = [], "", [], set()
    for number in range(8):
        if number == 4:
            thrown = await box.api("PUT", "/v1/kill", box.token(Role.COMMANDER), json={"reason": "a test"})
            assert thrown[0] == 200
        url = f"{box.listen}/recommendations?user_id=7&k=6&cursor={cursor}"
        async with box.session.get(url, headers={"Connection": "close"}) as answer:
            assert answer.status == 200
            said = await answer.json()
        workers.add(answer.headers["X-Request-Id"][:16])  # by whom it was made
        policies.append(said["metadata"]["policy"])
        shown += [item["id"] for item in said["items"]]
        cursor = said["metadata"]["next"]
    assert policies == ["collab_only"] * 4 + ["kill_switch"] * 4
    assert (len(shown), len(set(shown))) == (48, 48)
    assert 1 <= len(workers) <= 2  # the kernel has the choice
    assert await box.terminate() == 0
