"""A recommend request that asks two sources and blends them, beside Fusebox forwarding an answer as large."""

import json
from functools import partial

import servers
from harness import Lab, Subject, Unusable, alternate, get
from report import Finding, finish_samples, options, pace, ratio, script

CANDIDATES = 20  # of each source; half of them are the other source's too


def candidates(first: int) -> str:
    return json.dumps({"items": servers.films(CANDIDATES, first=first)}, separators=(",", ":"))


def blended_answer(lab: Lab, upstream: int, target: str, k: int) -> bytes:
    """The body of a blended answer, having checked that both sources are in it."""
    with servers.fusebox(lab, upstream) as proxy:
        status, body = get(proxy.port, target)
    answer = json.loads(body) if status == 200 else {}
    if len(answer.get("items", ())) != k or answer["metadata"]["level"] != "A":
        raise Unusable(f"the sidecar answered {status} and not {k} items of level A: {body[:500]!r}")
    return body


def main() -> int:
    parser = options(__doc__, rounds=5, seconds=4)
    parser.add_argument("--k", type=int, default=10, help="items asked for")
    chosen = parser.parse_args()
    target = f"/recommendations?user_id={{user}}&k={chosen.k}"
    sources = {
        "/candidates/cf": candidates(0),
        "/candidates/content": candidates(CANDIDATES // 2),
    }
    servers.install_check(["nginx"])
    with Lab(chosen.proxy_core, chosen.load_core) as lab:
        with servers.nginx_answers(lab, sources) as upstream:
            size = len(
                blended_answer(lab, upstream.port, target.replace("{user}", "user-00000000"), chosen.k)
            )
        with servers.nginx_answers(lab, sources | {"/": servers.json_body(size)}) as upstream:
            start = partial(servers.fusebox, lab, upstream.port)
            subjects = [
                Subject(name="two sources, blended", start=start, target=target),
                Subject(name="forward", start=start, target="/content/items/42"),
            ]
            samples = alternate(lab, subjects, pace(chosen))
    ours, forward = (subject.name for subject in subjects)
    findings = [
        Finding(
            text="CPU per request, blended ÷ forward",
            value=ratio(samples, "cpu_us", ours, forward),
            at_most=3.0,
        )
    ]
    print(f"k = {chosen.k}, {CANDIDATES} candidates of each source, {size} bytes of body\n")
    return finish_samples("recommend", chosen, samples, findings)


if __name__ == "__main__":
    script(main)
