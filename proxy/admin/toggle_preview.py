"""What a change of toggles would do, told before anybody makes it."""

from collections.abc import Mapping
from dataclasses import dataclass

from proxy.admin.calls import Call
from proxy.admin.problems import Fault, Problem
from proxy.admin.requests import TogglesPreviewed
from proxy.admin.toggles import Difference, refused
from proxy.control import TogglesRefused, UnknownBaseline, UnknownVersion, Wanted
from proxy.control.toggle_plans import baseline, patch
from proxy.core.preview import Preview


@dataclass(frozen=True, slots=True, kw_only=True)
class TogglesPreview(Preview):
    """`version` is the one in force, `diff` what the change would make of it."""

    version: int
    diff: Mapping[str, Difference]


async def preview_toggles(call: Call, body: TogglesPreviewed) -> TogglesPreview:
    """Preview a change of toggles, which is checked as if it were made; nothing is changed.

    The requests of the last ten minutes are decided again: who would get something else, and what each
    upstream would be asked, against the most that it has shown it can take. `unknown` where it has shown
    nothing. It takes up to a second, more while others ask for previews too.
    """
    toggles = call.services.toggles
    wanted = await _wanted(call, body)
    try:
        plan = toggles.plan(wanted)
    except TogglesRefused as error:
        raise refused(error) from error
    version = toggles.version
    found = await call.services.previews.preview(call.services.rollback.policy(over=toggles.policy(plan)))
    diff = {name: Difference(**each) for name, each in plan.diff.items()}
    told = {name: getattr(found, name) for name in Preview.__slots__}
    return TogglesPreview(version=version, diff=diff, **told)


async def _wanted(call: Call, body: TogglesPreviewed) -> Wanted:
    patched = bool(body.toggles) or body.rules is not None
    if patched + (body.baseline is not None) + (body.revert is not None) != 1:
        detail = "should have either toggles and rules, or a baseline, or a version to revert to"
        raise Problem("toggles_refused", f"body: {detail}", errors=[Fault(at="body", detail=detail)])
    try:
        if body.baseline is not None:
            return baseline(body.baseline)
        if body.revert is not None:
            return await call.services.toggles.revert_to(body.revert)
    except UnknownBaseline as error:
        raise Problem("unknown_baseline", str(error)) from error
    except UnknownVersion as error:
        raise Problem("unknown_version", str(error)) from error
    return patch(body.toggles, body.rules)
