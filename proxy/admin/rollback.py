"""The rollback: what each endpoint does. Annotations and docstrings are also the API's documentation."""

from dataclasses import dataclass

from proxy.admin.calls import Call, Change
from proxy.admin.problems import Problem
from proxy.admin.requests import Reason, RollbackOverride, RollbackPreviewed, RollbackStart
from proxy.control.rollback_orders import Order
from proxy.control.rollback_shown import PatchStatus, RollbackStatus, TriggersStatus
from proxy.control.rollback_words import layers_words
from proxy.core.preview import Preview
from proxy.core.roles import Role
from proxy.core.rollback.engine import IllegalMove, Transition
from proxy.core.toggles import Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackPreview(Preview):
    """An order tried out: the move it would make, and what would lie over the operator's toggles then."""

    state_before: str
    state_after: str
    layers_before: tuple[PatchStatus, ...]
    layers_after: tuple[PatchStatus, ...]
    kills: bool  # it throws or ends the emergency stage, which needs the role commander


async def read_rollback(call: Call) -> RollbackStatus:
    """Where the rollback stands: state, since when, why, what lies over the toggles, what comes next.

    With the last transitions, the newest first.
    """
    found = call.services.rollback_board.status()
    if found is None:
        raise _off()
    return found


async def read_triggers(call: Call) -> TriggersStatus:
    """What each trigger answers now: `ok`, `breach`, `inconclusive` or `no_data`, with its figures.

    About all traffic always, about parts of it where they breach; `shares` has all parts that are looked
    at by themselves, breach or not, and upstreams. No data is never ok.
    """
    found = call.services.rollback_board.triggers()
    if found is None:
        raise _off()
    return found


async def start_rollback(call: Call, body: RollbackStart) -> Change[RollbackStatus]:
    """Roll back by hand.

    The stage, with those before it, lies over the operator's toggles with the next request, for whom the
    scope says or for all, until somebody releases it; while P1 goes on it escalates by itself. A lower stage
    than the one that lies there is refused. The stage `emergency` needs the role commander. Needs no store.
    """
    return _ordered(call, _started(body), body.reason)


async def override_rollback(call: Call, body: RollbackOverride) -> Change[RollbackStatus]:
    """Hold a baseline by hand.

    It lies over the operator's toggles as it stands, in place of all stages, until somebody releases it;
    triggers are judged and shown, nothing loosens it by itself. `emergency`, and whatever ends an emergency
    stage, needs the role commander. Needs no store.
    """
    return _ordered(call, Order(action="override", baseline=body.baseline), body.reason)


async def release_rollback(call: Call, body: Reason) -> Change[RollbackStatus]:
    """Begin to recover.

    From a rollback, held by hand or by its own limit, or from an override: users are let out by bucket, in
    steps that are judged. An emergency stage needs the role commander. Needs no store.
    """
    return _ordered(call, Order(action="release"), body.reason)


async def preview_rollback(call: Call, body: RollbackPreviewed) -> RollbackPreview:
    """Preview an order to the rollback, which is checked as if it were given; nothing is changed.

    As the preview of toggles: the requests of the last ten minutes are decided again under what would lie
    over the toggles then.
    """
    order = Order(
        action=body.action,
        stage=body.stage,
        scope=_scope(body),
        baseline=body.baseline,
    )
    move = _foreseen(call, order)
    found = await call.services.previews.preview(call.services.rollback.policy(move.layers))
    told = {name: getattr(found, name) for name in Preview.__slots__}
    return RollbackPreview(
        state_before=move.before,
        state_after=move.to,
        layers_before=tuple(map(PatchStatus.of, call.services.rollback.layers)),
        layers_after=tuple(map(PatchStatus.of, move.layers)),
        kills=_kills(call, move),
        **told,
    )


def _started(body: RollbackStart) -> Order:
    return Order(action="start", stage=body.stage, scope=_scope(body))


def _scope(body: RollbackStart | RollbackPreviewed) -> Scope:
    return Scope(**{name: tuple(getattr(body, name)) for name in Scope._fields})


def _ordered(call: Call, order: Order, reason: str) -> Change[RollbackStatus]:
    move = _foreseen(call, order)
    if _kills(call, move) and call.who.role < Role.COMMANDER:
        what = "begin" if any(it.kills for it in move.layers) else "end"
        detail = f"This would {what} an emergency stage, which needs the role commander; nothing was changed."
        raise Problem("forbidden", detail)

    async def effect() -> RollbackStatus:
        try:
            await call.services.rollback.carry_out(order, reason=reason, by=call.who.name)
        except IllegalMove as error:  # by what came in between
            raise _illegal(error) from error
        return await read_rollback(call)

    return Change(
        action=f"rollback.{order.action}",
        target="rollback",
        before={"state": move.before, "layers": layers_words(move.was)},
        after={"state": move.to, "layers": layers_words(move.layers)},
        reason=reason,
        effect=effect,
    )


def _foreseen(call: Call, order: Order) -> Transition:
    if call.services.rollback.off:
        raise _off()
    try:
        return call.services.rollback.foresee(order)[-1]
    except IllegalMove as error:
        raise _illegal(error) from error


def _kills(call: Call, move: Transition) -> bool:
    """Whether the emergency begins by it, goes on otherwise, or ends."""
    return any(it.kills for it in (*call.services.rollback.layers, *move.layers))


def _illegal(error: IllegalMove) -> Problem:
    return Problem("illegal_move", f"{error}. Nothing was changed.")


def _off() -> Problem:
    detail = '[rollback] mode is "off": nothing is judged. Set "watch" or "act", and reload.'
    return Problem("rollback_off", detail)
