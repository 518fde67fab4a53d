"""Lanes and their ticker on a clock that only the test moves."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.dataplane.deadlines import TICK_S, Lane, Ticker


class Timed:
    def __init__(self, told: list["Timed"], then=None) -> None:
        self.told = told
        self.then = then
        self.at = 0.0

    def on_deadline(self, now: float) -> None:
        self.at = now
        self.told.append(self)
        if self.then is not None:
            self.then(self)


def test_time_is_over_exactly_then_and_told_once():
    lane, told = Lane(2.0), []
    one = Timed(told)
    lane.set(one, 10.0)
    lane.expire(11.999)
    assert told == []
    lane.expire(12.0)
    lane.expire(13.0)
    assert (told, one.at, len(lane)) == ([one], 12.0, 0)


def test_a_restart_begins_anew_and_changes_the_order():
    lane, told = Lane(2.0), []
    one, other = Timed(told), Timed(told)
    lane.set(one, 0.0)
    lane.set(other, 1.0)
    lane.set(one, 1.5)
    lane.expire(3.0)
    assert told == [other]
    lane.expire(3.5)
    assert told == [other, one]


def test_who_is_cleared_is_not_told_and_may_be_cleared_again():
    lane, told = Lane(1.0), []
    one = Timed(told)
    lane.clear(one)
    lane.set(one, 0.0)
    lane.clear(one)
    lane.clear(one)
    lane.expire(9.0)
    assert told == []


def test_who_is_told_may_clear_and_set_others_and_itself():
    """Each is cleared before it is told, so it can start again at once."""
    lane, told = Lane(1.0), []
    last = Timed(told)
    again = Timed(told, then=lambda me: lane.set(me, me.at))
    clears = Timed(told, then=lambda _: lane.clear(last))
    for who in (again, clears, last):
        lane.set(who, 0.0)
    lane.expire(5.0)
    assert told == [again, clears]
    assert len(lane) == 1
    lane.expire(6.0)
    assert told == [again, clears, again]


steps = st.lists(
    st.tuples(st.sampled_from(["set", "clear", "wait"]), st.integers(0, 4), st.floats(0, 3)), max_size=40
)


@settings(derandomize=True)
@given(steps)
def test_a_lane_does_what_a_timer_for_each_would_do(script):
    """The same are told, and the oldest first."""
    lane, told = Lane(2.5), []
    who = [Timed(told) for _ in range(5)]
    ends: dict[Timed, float] = {}
    now = 0.0
    for what, number, wait in script:
        if what == "set":
            lane.set(who[number], now)
            ends.pop(who[number], None)
            ends[who[number]] = now + 2.5
        elif what == "clear":
            lane.clear(who[number])
            ends.pop(who[number], None)
        else:
            now += wait
            told.clear()
            lane.expire(now)
            due = [timed for timed, end in ends.items() if end <= now]
            assert told == due
            for timed in due:
                del ends[timed]
        assert len(lane) == len(ends)


def test_one_lane_for_each_duration():
    ticker = Ticker(lambda: 0.0)
    assert ticker.lane(0.15) is ticker.lane(0.15)
    assert ticker.lane(0.15) is not ticker.lane(0.25)
    assert ticker.lane(0.25).seconds == 0.25


class Ticks:
    """Waits for ticks that have really happened."""

    def __init__(self, ticker: Ticker) -> None:
        self.seen: list[float] = []
        self._ticked = asyncio.Event()
        ticker.also(self._tick)

    def _tick(self, now: float) -> None:
        self.seen.append(now)
        self._ticked.set()

    async def next(self) -> None:
        self._ticked.clear()
        async with asyncio.timeout(5):
            await self._ticked.wait()


async def test_the_ticker_looks_at_all_lanes_by_its_clock():
    now, told = [100.0], []
    ticker = Ticker(lambda: now[0])
    short, long = Timed(told), Timed(told)
    ticker.lane(1.0).set(short, now[0])
    ticker.lane(60.0).set(long, now[0])
    ticks = Ticks(ticker)
    ticker.start()
    await ticks.next()
    assert told == []
    now[0] = 101.5
    await ticks.next()
    assert (told, short.at) == ([short], 101.5)
    now[0] = 160.0
    await ticks.next()
    assert told == [short, long]
    ticker.stop()


async def test_a_lane_made_by_who_is_told_is_looked_at_too():
    """Settings change while time runs."""
    now, told = [0.0], []
    ticker = Ticker(lambda: now[0])
    late = Timed(told)
    first = Timed(told, then=lambda _: ticker.lane(7.0).set(late, now[0]))
    ticker.lane(1.0).set(first, 0.0)
    ticks = Ticks(ticker)
    ticker.start()
    now[0] = 2.0
    await ticks.next()
    now[0] = 9.0
    await ticks.next()
    ticker.stop()
    assert told == [first, late]


async def test_a_stopped_ticker_ticks_no_more():
    ticker = Ticker(lambda: 0.0)
    ticker.stop()
    ticks = Ticks(ticker)
    ticker.start()
    await ticks.next()
    ticker.stop()
    ticker.stop()
    seen, passed = len(ticks.seen), asyncio.Event()
    asyncio.get_running_loop().call_later(5 * TICK_S, passed.set)
    await passed.wait()
    assert len(ticks.seen) == seen
