"""The rollback as a person reads it."""

from collections.abc import Iterable, Iterator
from typing import Any

from proxy.cli.common import to_second
from proxy.cli.toggle_words import shown


def rollback_words(it: dict[str, Any]) -> Iterator[str]:
    """As `GET /v1/rollback` and `GET /v1/status` tell it, the most important line first."""
    stage = f" ({_stage(it['stage'])})" if it["stage"] else ""
    watched = "" if it["mode"] == "act" else f", mode {it['mode']}"
    yield f"rollback {it['state']}{stage} since {to_second(it['since'])}, {span(it['for_s'])}{watched}"
    if it["layers"] and not it["applied"]:
        yield "only watched: nothing of this is in force"
    if it["state"] != "NORMAL" and it["by"]:
        yield f"why: {' '.join(it['reason'].split())} (by {it['by']})"
    if it["cause"] and it["cause"] != it["reason"]:
        yield f"began {to_second(it['began'])}: {' '.join(it['cause'].split())}"
    for said in it["wrong"]:
        yield f"wrong now: {said}"
    lies = "over the toggles" if it["applied"] else "would lie over the toggles"
    for patch in it["layers"]:
        yield f"{lies}: {patch_words(patch)}"
    if it["next"] and it["state"] != "NORMAL":
        when = f" in {span(it['next_in_s'])}" if it["next_in_s"] is not None else ""
        yield f"next{when}: {it['next']}"
    if not it["persisted"]:
        yield "a restart would not find this state: it is being written, or the trouble below says why not"


def patch_words(patch: dict[str, Any]) -> str:
    """Which stage, for whom, and the toggles that come with it."""
    parts = (f"{part}={','.join(names)}" for part, names in patch["scope"].items() if names)
    whom = " ".join(parts) or "everybody"
    if patch["percent"] < 100:
        whom += f", {patch['percent']:g} % of the users" if patch["percent"] else ", all of whom are let out"
    toggles = " ".join(f"{name}={shown(it)}" for name, it in patch["toggles"].items())
    return f"{_stage(patch['stage'])} for {whom}: {toggles}"


def _stage(stage: str) -> str:
    return f"stage {stage}" if stage[:1].isdigit() else stage


def span(seconds: float) -> str:
    """How long, as short as one would say it."""
    whole = int(seconds)
    if whole < 120:
        return f"{whole} s"
    if whole < 7_200:
        return f"{whole // 60} min"
    return f"{whole // 3_600} h" if whole < 172_800 else f"{whole // 86_400} d"


def verdict_row(it: dict[str, Any]) -> tuple[object, ...]:
    answer = it["answer"].replace("_", " ")
    if it["answer"] == "breach":
        answer = "BREACH, as in control" if it["shared"] else f"BREACH ({it['by']})" if it["by"] else "BREACH"
    return (
        it["trigger"],
        it["segment"],
        it["side"],
        answer,
        _percent(it["observed"]),
        _percent(it["threshold"]),
        it["n"],
        it["needed"],
        _percent(it["baseline"]),
        _percent(it["control"]),
        to_second(it["since"]),
    )


def share_row(it: dict[str, Any], names: Iterable[str]) -> tuple[object, ...]:
    """`names` of what went wrong, one column each."""
    return (it["segment"], it["side"], it["n"], *(_percent(it["wrong"].get(name)) for name in names))


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:.3g} %"
