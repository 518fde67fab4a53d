"""Whatever happens, in whatever order: what holds of the machine in every state, and that it comes back."""

import json
from dataclasses import replace

from hypothesis import settings as profile
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from scripted import ACT, EU, GREEN, P1, P2, SHARED, SILENT, UNSURE, US, Bench, p1_in

from proxy.core.flaps import BUCKETS
from proxy.core.rollback.engine import IllegalMove, Load, World
from proxy.core.rollback.layers import laid_over
from proxy.core.rollback.machine import AUTOMATIC, MOVES, STATES
from proxy.core.rollback.stages import ORDER
from proxy.core.rollback.verdicts import Critical
from proxy.core.toggles import BASELINES, Scope, Toggles

VIEWS = (GREEN, P1, P2, SHARED, UNSURE, SILENT, p1_in(EU), p1_in(US))
SIDES = ("exposed", "staged", "recovered")
OPEN = Critical("breaker_open", "cf", "open")
NAMED = {"breached", "warned", "widened", "worsened"}
LEVELS, CACHES = "ABCD", ("cold", "prewarm", "warm_only")

operators = st.builds(
    Toggles,
    exposure_percent=st.sampled_from([0.0, 10.0, 60.0, 100.0]),
    disable_cf=st.booleans(),
    candidate_fallback_level=st.sampled_from(LEVELS),
    cache_mode=st.sampled_from(CACHES),
    kill_switch=st.booleans(),
    experiment_freeze=st.booleans(),
)
scopes = st.sampled_from([Scope(), Scope(region=("eu",)), Scope(cohort=("heavy",))])


class Life(RuleBasedStateMachine):
    """One engine from its start to lasting green."""

    @initialize(operator=operators, mode=st.sampled_from(["act", "act", "watch"]))
    def begin(self, operator, mode):
        self.operator = operator
        self.bench = Bench(replace(ACT, mode=mode), tick=5.0).says(exposed=GREEN)
        self.bench.world = World(loads={"content": Load(1, 10)}, settle_s=1.0)
        self.before = "NORMAL", ()
        self.watched = 0

    @rule(side=st.sampled_from(SIDES), view=st.sampled_from(VIEWS))
    def hear(self, side, view):
        self.bench.says(**{side: view})

    @rule(seconds=st.sampled_from([0, 1, 5, 35, 130, 700]), requests=st.integers(0, 50))
    def wait(self, seconds, requests):
        for side in SIDES:
            self.bench.came(side, requests)
        held = self.bench.engine.pinned, self.bench.engine.state, self.bench.engine.layers
        self.bench.tick = max(5.0, seconds / 20)
        moves = self.bench.step(seconds)
        self.bench.tick = 5.0
        if self.bench.world.killed:
            assert moves == [], "killed by hand nothing moves"
        if held[1] == "MANUAL_OVERRIDE":
            assert moves == [], "nothing automatic ends an override"
        if held[0]:
            assert {it.to for it in moves} <= {"ROLLED_BACK"}, "what a person holds is never opened"

    @rule(there=st.booleans())
    def fail_critically(self, there):
        self.bench.world = replace(self.bench.world, criticals=(OPEN,) if there else ())

    @rule(killed=st.booleans())
    def kill(self, killed):
        self.bench.world = replace(self.bench.world, killed=killed)
        self.bench.step()

    @rule(over=st.booleans())
    def pass_by(self, over):
        self.bench.judge.over = over

    def ordered(self, call, *args):
        """What a person orders is done, or nothing is changed."""
        engine = self.bench.engine
        was = engine.saved(self.bench.now)
        try:
            trial = call(self.bench.now, "ann", "by hand", *args, dry_run=True)
            assert engine.saved(self.bench.now) == was
            done = call(self.bench.now, "ann", "by hand", *args)
        except IllegalMove:
            assert engine.saved(self.bench.now) == was
            return
        assert [it.layers for it in trial] == [it.layers for it in done]
        self.bench.moves += done

    @rule(stage=st.sampled_from(ORDER), scope=scopes)
    def start(self, stage, scope):
        self.ordered(self.bench.engine.start, stage, scope)

    @rule(baseline=st.sampled_from(sorted(BASELINES)))
    def override(self, baseline):
        self.ordered(self.bench.engine.override, baseline)

    @rule()
    def release(self):
        self.ordered(self.bench.engine.release)

    @rule()
    def restart(self):
        """Another process, another monotonic clock: the same state, the same time to go."""
        old = self.bench
        raw = json.loads(json.dumps(old.engine.saved(old.now)))
        new = Bench(old.engine.settings, raw, now=old.now / 2, tick=5.0)
        new.judge.says, new.judge.over, new.world, new.moves = (
            old.judge.says, old.judge.over, old.world, old.moves,
        )  # fmt: skip
        assert (new.engine.state, new.engine.layers) == (old.engine.state, old.engine.layers)
        left = [it.engine.next_at and round(it.engine.next_at - it.now, 6) for it in (old, new)]
        assert left[0] == left[1]
        assert abs((old.now - old.engine.since) - (new.now - new.engine.since)) < 1e-6
        again = new.engine.saved(new.now)
        assert {name: _near(value) for name, value in again.items()} == {
            name: _near(value) for name, value in raw.items()
        }
        self.bench = new

    @invariant()
    def every_move_is_one_of_the_table_and_says_why(self):
        for it in self.bench.moves[self.watched :]:
            assert (it.before, it.was) == self.before
            assert MOVES[it.before, it.event].to == it.to
            assert it.reason
            assert (it.by == "fusebox") == (it.event in AUTOMATIC)
            if it.event in NAMED:
                assert it.causes
            if it.event == "critical_failed":
                assert it.criticals
            self.before = it.to, it.layers
        self.watched = len(self.bench.moves)
        assert self.before == (self.bench.engine.state, self.bench.engine.layers), "moved, and said nothing"

    @invariant()
    def there_is_one_state_and_layers_exactly_outside_normal(self):
        engine = self.bench.engine
        assert engine.state in STATES
        assert (engine.layers == ()) == (engine.state == "NORMAL")
        assert self.bench.judge.learning <= (engine.state == "NORMAL")

    @invariant()
    def nothing_automatic_is_looser_than_the_operator(self):
        mine = self.operator
        for patch in self.bench.engine.layers:
            held = laid_over(mine, patch)
            assert held.kill_switch >= mine.kill_switch
            if patch.exact:
                assert self.bench.engine.state in {"MANUAL_OVERRIDE", "RECOVERY_VERIFY"}
                continue
            assert held.exposure_percent <= mine.exposure_percent
            assert held.disable_cf >= mine.disable_cf
            assert held.experiment_freeze >= mine.experiment_freeze
            assert LEVELS.index(held.candidate_fallback_level) >= LEVELS.index(mine.candidate_fallback_level)
            assert CACHES.index(held.cache_mode) >= CACHES.index(mine.cache_mode)

    @invariant()
    def only_a_recovery_lets_anybody_out(self):
        engine = self.bench.engine
        lows = {patch.low for patch in engine.layers if patch.toggles.get("candidate_fallback_level") != "D"}
        if engine.state != "RECOVERY_VERIFY":
            assert lows <= {0}
        assert all(0 <= patch.low <= patch.high <= BUCKETS for patch in engine.layers)

    def teardown(self):
        """Under lasting green it comes back; a person is needed only where one has to look."""
        if not hasattr(self, "bench"):
            return
        bench = self.bench.says(exposed=GREEN, staged=GREEN, recovered=GREEN)
        bench.world = World(settle_s=1.0)
        bench.step()
        if bench.engine.pinned or bench.engine.flapping:
            assert {it.event for it in bench.step(ACT.hold_max_s + 10)} <= {"absorbed"}
            bench.engine.release(bench.now, "ann", "mended")
        bench.tick = 15.0
        bench.until("NORMAL", ACT.hold_max_s + 5 * ACT.recovery_step_s + 60)
        assert bench.engine.layers == ()


def _near(value):
    """Floats that were moved about by other ones."""
    if isinstance(value, list):
        return [_near(it) for it in value]
    return round(value, 6) if isinstance(value, float) else value


TestLife = Life.TestCase
TestLife.settings = profile(max_examples=40, stateful_step_count=25, deadline=None)
