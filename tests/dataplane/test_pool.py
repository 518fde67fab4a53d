"""The pool: whose turn it is, who gives way, which connections are used again."""

import asyncio

import pytest
from calling import CRITICAL, LOW, NORMAL, Caller, at_rest, changed, pool_of, served, unserved
from harness import Wire, echo, until
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.clock import monotonic
from proxy.core.budget import TTL_S
from proxy.core.policy import Priority
from proxy.dataplane.failures import Failure
from proxy.dataplane.pool import WRITE_REUSE_S


def test_requests_pay_for_retries_for_ten_seconds_from_the_tick_after_them():
    pool = pool_of("http://127.0.0.1:9", retry_budget=0.5, retry_floor_per_s=0.0)
    pool.budget.made += 10
    pool.tick(1000.0)
    assert pool.budget.withdraw(1000.0 + TTL_S / 2)
    assert not pool.budget.withdraw(1000.0 + TTL_S)


async def test_a_connection_is_made_counted_and_used_again():
    async with served() as (pool, upstream):
        first = Caller(pool).ask()
        assert pool.cell.inflight == 1
        await first.connected()
        assert first.connection.address.inflight == 1
        first.done()
        assert at_rest(pool)
        again = Caller(pool).ask()
        assert again.connection is first.connection
        assert again.connection.reused
        again.fail()
        assert at_rest(pool)
        await until(lambda: upstream.wires[0].lost, "the close of what was given up")


async def test_the_most_important_is_served_first_then_who_came_first():
    async with served(max_inflight=1, max_queue=10) as (pool, _):
        log: list[Caller] = []
        running = await Caller(pool, NORMAL, log).ask().connected()
        low, normal, critical, normal_2, critical_2 = (
            Caller(pool, priority, log).ask() for priority in (LOW, NORMAL, CRITICAL, NORMAL, CRITICAL)
        )
        assert pool.cell.queued == 5
        assert pool.queues(low)
        for served_now in (running, critical, critical_2, normal, normal_2, low):
            assert log[-1] is served_now
            assert pool.cell.inflight == 1
            served_now.done()
        assert at_rest(pool)


async def test_a_full_queue_sheds_the_newest_of_the_least_important():
    async with served(max_inflight=1, max_queue=3) as (pool, _):
        running = await Caller(pool).ask().connected()
        low, low_2, normal = (Caller(pool, priority).ask() for priority in (LOW, LOW, NORMAL))
        critical = Caller(pool, CRITICAL).ask()
        assert low_2.failure is Failure.OVERLOADED
        normal_2 = Caller(pool, NORMAL).ask()
        assert low.failure is Failure.OVERLOADED
        for late in (Caller(pool, LOW).ask(), Caller(pool, NORMAL).ask()):
            assert late.failure is Failure.OVERLOADED
        critical_2 = Caller(pool, CRITICAL).ask()
        assert normal_2.failure is Failure.OVERLOADED
        assert (normal.failure, critical.failure, critical_2.failure) == (None, None, None)
        assert pool.cell.queued == 3
        for caller in (running, critical, critical_2, normal):
            caller.done()
        assert at_rest(pool)


async def test_no_queue_at_all():
    async with served(max_inflight=1, max_queue=0) as (pool, _):
        running = await Caller(pool).ask().connected()
        assert Caller(pool, CRITICAL).ask().failure is Failure.OVERLOADED
        running.done()
        assert at_rest(pool)


async def test_waiting_ends_with_its_deadline_and_only_then():
    async with served(max_inflight=1, queue_timeout_ms=400) as (pool, _):
        running = await Caller(pool).ask().connected()
        waiting = Caller(pool).ask()
        lane, now = pool.ticker.lane(0.4, "queue"), monotonic()
        lane.expire(now + 0.3)
        assert waiting.failure is None
        lane.expire(now + 0.5)
        assert (waiting.failure, pool.cell.queued) == (Failure.OVERLOADED, 0)
        running.done()
        assert waiting.connection is None
        assert at_rest(pool)


async def test_who_was_served_has_no_deadline_in_the_queue_any_more():
    async with served(max_inflight=1, queue_timeout_ms=400) as (pool, _):
        running = await Caller(pool).ask().connected()
        waiting = Caller(pool).ask()
        running.done()
        pool.ticker.lane(0.4, "queue").expire(monotonic() + 9)
        assert (waiting.failure, waiting.connection) == (None, running.connection)
        assert not pool.leave(waiting)
        waiting.done()


async def test_a_place_is_left_once():
    async with served(max_inflight=1) as (pool, _):
        running = await Caller(pool).ask().connected()
        waiting = Caller(pool).ask()
        assert (pool.leave(waiting), pool.leave(waiting), pool.cell.queued) == (True, False, 0)
        running.done()
        assert waiting.connection is None


async def test_a_refused_connection_gives_its_slot_to_the_next():
    """Nobody listens: each is told in its turn, and nothing stays taken."""
    pool = pool_of(await unserved(), max_inflight=1)
    callers = [Caller(pool).ask() for _ in range(3)]
    for caller in callers:
        assert (await caller.connected()).failure is Failure.UNREACHABLE
    assert at_rest(pool)


async def test_a_write_goes_out_on_a_connection_that_was_just_in_use_or_a_new_one():
    """The idle race: an older connection may be closing at this very moment."""
    async with served() as (pool, _):
        first = await Caller(pool).ask().connected()
        first.done()
        ended = first.connection.idle_since
        write = Caller(pool).ask(fresh=True, now=ended + WRITE_REUSE_S / 2)
        assert write.connection is first.connection
        write.done()
        ended = first.connection.idle_since
        write = Caller(pool).ask(fresh=True, now=ended + 1.001 * WRITE_REUSE_S)
        assert write.connection is None
        read = Caller(pool).ask(now=ended + 1.001 * WRITE_REUSE_S)
        assert read.connection is first.connection  # still good for what may be repeated
        await write.connected()
        assert not write.connection.reused
        for caller in (read, write):
            caller.done()
        assert at_rest(pool)


async def test_the_last_used_is_used_first_so_that_others_grow_idle():
    async with served() as (pool, _):
        one = await Caller(pool).ask().connected()
        other = await Caller(pool).ask().connected()
        one.done()
        other.done()
        assert Caller(pool).ask().connection is other.connection


async def test_what_was_idle_too_long_is_closed_and_never_used():
    async with served(idle_s=4.0) as (pool, upstream):
        one = await Caller(pool).ask().connected()
        other = await Caller(pool).ask().connected()
        one.done()
        pool.sweep(one.connection.idle_since + 3.9)
        assert not one.connection.transport.is_closing()
        other.done()
        other.connection.idle_since += 1
        pool.sweep(one.connection.idle_since + 4.0)
        assert one.connection.transport.is_closing()
        assert not other.connection.transport.is_closing()
        late = Caller(pool).ask(now=other.connection.idle_since + 4.0)
        assert late.connection is None
        assert (await late.connected()).connection not in (one.connection, other.connection)
        late.done()
        await until(lambda: sum(wire.lost for wire in upstream.wires) == 2, "the close of two")


async def test_a_connection_that_the_upstream_closed_is_not_used():
    async with served() as (pool, upstream):
        first = await Caller(pool).ask().connected()
        first.done()
        await until(lambda: upstream.wires, "the connection upstream")
        upstream.wires[0].close()
        await until(first.connection.transport.is_closing, "the close")
        again = await Caller(pool).ask().connected()
        assert again.connection is not first.connection
        again.done()


async def test_an_aged_connection_is_closed_after_its_answer():
    async with served(max_connection_age_s=60.0) as (pool, _):
        first = await Caller(pool).ask().connected()
        first.connection.retire_at = monotonic()
        first.done()
        assert first.connection.transport.is_closing()
        assert Caller(pool).ask().connection is None


async def test_closing_ends_what_is_idle_and_lets_answers_end():
    async with served() as (pool, _):
        idle = await Caller(pool).ask().connected()
        busy = await Caller(pool).ask().connected()
        idle.done()
        pool.close()
        assert idle.connection.transport.is_closing()
        await busy.exchange()
        assert busy.failure is None
        assert at_rest(pool)
        await until(busy.connection.transport.is_closing, "the close behind the answer")


async def test_at_another_place_calls_end_where_they_began_and_the_queue_moves_on():
    async with served(max_inflight=1) as (pool, old), served() as (_, new):
        idle = await Caller(pool).ask().connected()
        idle.done()
        running = Caller(pool).ask()
        waiting = Caller(pool).ask()
        changed(pool, url=new.url)
        await running.exchange()
        assert len(old.requests) == 1
        await waiting.exchange()
        assert len(new.requests) == 1
        assert running.connection.transport.is_closing()  # nobody will ask for it there again
        assert at_rest(pool)


async def test_at_the_same_place_connections_stay():
    async with served() as (pool, _):
        kept = await Caller(pool).ask().connected()
        kept.done()
        changed(pool, timeout_ms=77, max_queue=3)
        assert Caller(pool).ask().connection is kept.connection


async def test_a_higher_limit_holds_from_the_next_call_and_the_lower_too():
    async with served(max_inflight=1) as (pool, _):
        one = await Caller(pool).ask().connected()
        changed(pool, max_inflight=2)
        two = await Caller(pool).ask().connected()
        assert two.connection is not None
        changed(pool, max_inflight=1)
        three = Caller(pool).ask()
        one.done()
        assert three.connection is None  # two runs still
        two.done()
        assert three.connection is not None
        three.done()
        assert at_rest(pool)


async def test_an_address_that_just_failed_is_avoided_while_there_is_a_better():
    async with served() as (_, upstream):
        pool = pool_of([upstream.url, await unserved()])
        failed = None
        while failed is None:
            failed = (await Caller(pool).ask().connected()).address
        for _ in range(10):
            assert (await Caller(pool).ask(avoid=failed).connected()).failure is None
        pool.close()


# -- never more than allowed, and nothing kept: any order of events

SMALL = {"max_inflight": 2, "max_queue": 3}
moves = st.lists(st.tuples(st.sampled_from(["ask", "done", "fail", "leave"]), st.integers(0, 9)), max_size=60)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(moves)
def test_slots_are_given_back_whatever_happens(script):
    """Asked, answered, failed, given up in any order: limits hold at every step, and the end is rest."""

    async def walk() -> None:
        async with served(echo, **SMALL) as (pool, _):
            log: list[Caller] = []
            callers: list[Caller] = []

            def ended(caller: Caller) -> bool:
                return caller.failure is not None

            def holding() -> list[Caller]:
                return [caller for caller in callers if caller.connection is not None and not ended(caller)]

            for what, number in script:
                if what == "ask":
                    callers.append(Caller(pool, Priority(number % 3), log).ask())
                elif what == "leave":
                    waiting = [caller for caller in callers if pool.queues(caller)]
                    for caller in waiting[: number % 3]:
                        caller.on_deadline(0.0)
                elif held := holding():
                    caller = held[number % len(held)]
                    caller.failure = Failure.ABORTED  # over for this test
                    (caller.done if what == "done" else caller.fail)()
                assert pool.cell.inflight <= SMALL["max_inflight"]
                assert (
                    pool.cell.queued == sum(pool.queues(caller) for caller in callers) <= SMALL["max_queue"]
                )
                if pool.cell.queued:
                    assert pool.cell.inflight == SMALL["max_inflight"]
            while not at_rest(pool):
                await until(holding, "connections for the rest")
                for caller in holding():
                    caller.failure = Failure.ABORTED
                    caller.done()
            assert all(ended(caller) for caller in callers)

    asyncio.run(walk())


@pytest.mark.parametrize("end", [Wire.close, Wire.reset])
async def test_an_upstream_that_hangs_up_gives_the_slot_back(end):
    async def script(wire: Wire) -> None:
        await wire.request()
        end(wire)

    async with served(script, max_inflight=1) as (pool, _):
        first, second = Caller(pool).ask(), Caller(pool).ask()
        for caller in (first, second):
            await caller.exchange()
            assert caller.failure is Failure.RESET
        assert at_rest(pool)
