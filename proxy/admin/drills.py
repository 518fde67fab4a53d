"""Drills of the rollback: what each endpoint does, and its documentation in the API."""

from dataclasses import asdict

from proxy.admin.calls import Call, Change
from proxy.admin.problems import Problem
from proxy.admin.requests import DrillStart, Reason
from proxy.control.drills import DrillRefused, DrillsStatus, DrillStarted


async def read_drills(call: Call) -> DrillsStatus:
    """The drill of the rollback that is running, or the last one since the start.

    With its moves, and its criteria once it is over.
    """
    return call.services.drills.status()


async def start_drill(call: Call, body: DrillStart) -> Change[DrillStarted]:
    """Begin a drill of the rollback.

    Requests that bear the `override` of the answer meet the drill's fault, are judged by an engine of their
    own and rolled back by it; nobody else's are touched. It ends by itself within `limit_s`, with a kill and
    with a real breach. `fusebox drill NAME` makes the requests. Needs no store.
    """
    drills = call.services.drills
    if why := drills.obstacle(body.name):
        raise _refused(why)

    async def effect() -> DrillStarted:
        try:
            return await drills.start(body.name, body.clocks, reason=body.reason, by=call.who.name)
        except DrillRefused as error:  # by what came in between
            raise _refused(str(error)) from error

    return Change(
        action="drill.start",
        target=body.name,
        before={"running": False},
        after={"running": True, **asdict(body.clocks)},
        reason=body.reason,
        effect=effect,
    )


async def abort_drill(call: Call, body: Reason) -> Change[DrillsStatus]:
    """End the drill of the rollback that is running.

    Where none is, nothing changes. Needs no store.
    """
    drills = call.services.drills
    found = drills.status().drill

    async def effect() -> DrillsStatus:
        return await drills.abort(reason=body.reason, by=call.who.name)

    return Change(
        action="drill.abort",
        target=found.name if found else "drill",
        before={"running": found is not None and not found.over},
        after={"running": False},
        reason=body.reason,
        effect=effect,
    )


def _refused(why: str) -> Problem:
    return Problem("drill_refused", f"There is no drill now: {why}. Nothing was changed.")
