"""What a post-mortem says in words: the timeline, and a report to go on from."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy.cli.postmortem_kit import Kit
from proxy.clock import rfc3339

Line = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """What is known of it. `timeline`: at (RFC 3339), what, who, why."""

    since: str
    until: str
    timeline: Sequence[Line]
    coverage: Mapping[str, Any]
    errors: Sequence[Mapping[str, Any]]
    efficacy: Sequence[Mapping[str, Any]]
    missing: Mapping[str, str]

    @classmethod
    def of(cls, kit: Kit) -> "Incident":
        """From the parts that there are."""
        since, until = rfc3339(kit.since), rfc3339(kit.until)
        lines = [
            *_moves(kit.read("queries/triggers.json") or ()),
            *_versions(kit.read("toggles_history.json") or ()),
            *_entries(kit.read("audit.json") or ()),
        ]
        return cls(
            since=since,
            until=until,
            timeline=sorted((it for it in lines if since <= it["at"] < until), key=lambda it: it["at"]),
            coverage=next(iter(kit.read("queries/coverage.json") or ()), {}),
            errors=kit.read("queries/error.json") or (),
            efficacy=kit.read("queries/efficacy.json") or (),
            missing=dict(kit.missing),
        )

    def lines(self) -> str:
        """The timeline, one line each."""
        told = [
            f"{it['at'][:23]}Z  {it['what']}" + (f"  by {it['who']}" if it["who"] else "") + _why(it)
            for it in self.timeline
        ]
        return "\n".join(told or ["nothing that is recorded changed"]) + "\n"


def _why(line: Line) -> str:
    return f": {line['why']}" if line["why"] else ""


def _moves(rows: Iterable[Mapping[str, Any]]) -> Iterable[Line]:
    for it in rows:
        # one name for all parts of the traffic in which it says so
        names = ", ".join(dict.fromkeys((it["triggers"] or "").split(", ")))
        stage = f" (stage {it['stage']})" if it["stage"] else ""
        triggers = stage + (f" [{names}]" if names else "")
        yield {
            "at": rfc3339(it["timestamp_ms"] / 1000),
            "what": f"{it['subject']}: {it['state_before']} → {it['state_after']}{triggers}",
            "who": it["actor"] or "",
            "why": it["reason"] or "",
        }


def _versions(rows: Iterable[Mapping[str, Any]]) -> Iterable[Line]:
    for it in rows:
        changed = ", ".join(it["diff"])
        what = f"toggles version {it['version']} ({it['kind']}): {changed or 'no change'}"
        yield {"at": it["at"], "what": what, "who": it["by"], "why": it["reason"]}


def _entries(rows: Iterable[Mapping[str, Any]]) -> Iterable[Line]:
    for it in rows:
        if not it["action"].startswith(("toggles.", "rollback.")):  # those stand there already
            what = f"{it['action']} {it.get('target') or ''}".strip()
            yield {
                "at": it["at"],
                "what": f"{what} ({it['outcome']})",
                "who": str(it.get("actor") or ""),
                "why": str(it.get("reason") or ""),
            }


_REPORT = """\
# Post-mortem: TITLE

| | |
|---|---|
| from, until | {since} … {until} |
| requests judged | {requests} |
| mean coverage | {coverage} |
| failed requests | {failed} |
| severity, owner | |

## What users saw

To be written: who, how many, for how long. `plots/` has the figures over time, `queries/traffic.json` what
all users got, `queries/answers.json` the bad answers and `samples/answers.json` the latest.

## Timeline

```
{timeline}```

## What failed

{errors}
`queries/failures.json` has the latest failures one by one.

## Did the rollback help

Before and after the first rollback in the timeline;
`fusebox query efficacy --param rollback_time=…` splits at another.

{efficacy}

## Cause, and what becomes of it

To be written.

| what is done about it | who | until |
|---|---|---|
| | | |

## Words for others

While it lasts: "Since {since} recommendations are degraded for some users. Everybody gets full lists,
which may be less personal. We have rolled back and are watching it. Next word in 30 minutes."

When it is over: "The disturbance of recommendations is over. Between {since} and {until} N % of the answers
were less personal or late. What failed was X; what we do so that it does not happen again follows by DATE."

## Where to look further

| what | where |
|---|---|
| events | {directory} |
| state, keys, spool | the state directory of {config} |
| log of the sidecar | its stdout, as your platform keeps it; `logger` says which part |
| audit log | `fusebox audit list`, `fusebox audit verify` |
| missing here | {missing} |
"""


def report(incident: Incident, config: Path, directory: Path | None) -> str:
    """Markdown with what is known filled in."""
    total = incident.errors[0] if incident.errors else {}
    rate = _figure(total.get("error_rate_per_1k"))
    return _REPORT.format(
        since=incident.since[:19] + "Z",
        until=incident.until[:19] + "Z",
        requests=_figure(incident.coverage.get("requests")),
        coverage=_figure(incident.coverage.get("avg_coverage")),
        failed=f"{_figure(total.get('failed_requests'))} ({rate} per thousand)",
        timeline=incident.lines(),
        errors=_table(incident.errors) or "Nothing that is recorded.\n",
        efficacy=_table(incident.efficacy) or "There was none between the two times.\n",
        directory=directory or "there is no event log",
        config=config,
        missing="; ".join(incident.missing) or "nothing",
    )


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([_figure(it) for it in row.values()] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _figure(value: Any) -> str:
    if value is None:
        return "unknown"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
