"""A killed recommend request, answered from memory, beside nginx answering as many fixed bytes.

Nothing is upstream of either. The answer differs from user to user for Fusebox, never for nginx. The floor
beside them parses a head with httptools on uvloop and writes a constant: nothing in Python can do less.
"""

import json
from functools import partial

import servers
from harness import Lab, Subject, Unusable, alternate, get
from report import Finding, finish_samples, options, pace, ratio, script

NOWHERE = 9  # the discard port: nothing listens there, and a kill needs nothing


def killed_answer(lab: Lab, target: str, k: int) -> bytes:
    """The body that a killed Fusebox gives, having checked that it is one."""
    with servers.fusebox(lab, NOWHERE, kill=True) as proxy:
        status, body = get(proxy.port, target)
    answer = json.loads(body) if status == 200 else {}
    if len(answer.get("items", ())) != k or {item["source"] for item in answer["items"]} != {"popularity"}:
        raise Unusable(f"the killed sidecar answered {status} and not {k} popular items: {body[:300]!r}")
    return body


def main() -> int:
    parser = options(__doc__, rounds=5, seconds=4)
    parser.add_argument("--k", type=int, default=10, help="items asked for")
    chosen = parser.parse_args()
    target = f"/recommendations?user_id={{user}}&k={chosen.k}"
    servers.install_check(["nginx"])
    with Lab(chosen.proxy_core, chosen.load_core) as lab:
        size = len(killed_answer(lab, target.replace("{user}", "user-00000000"), chosen.k))
        fixed = partial(
            servers.nginx_answers, lab, {"/": servers.json_body(size)}, name="nginx", core=lab.proxy_core
        )
        subjects = [
            Subject(
                name="fusebox, killed", start=partial(servers.fusebox, lab, NOWHERE, kill=True), target=target
            ),
            Subject(name="nginx, return 200", start=fixed, target=target),
            Subject(name="floor", start=partial(servers.floor, lab, size), target=target),
        ]
        samples = alternate(lab, subjects, pace(chosen))
    ours, theirs, floor = (subject.name for subject in subjects)
    findings = [
        Finding(
            text="requests per CPU second, fusebox ÷ nginx",
            value=ratio(samples, "requests_per_cpu_s", ours, theirs),
            at_least=0.4,
        ),
        Finding(
            text="requests/s, fusebox ÷ nginx",
            value=ratio(samples, "requests_per_s", ours, theirs),
            at_least=0.4,
        ),
        Finding(
            text="requests per CPU second, floor ÷ nginx",
            value=ratio(samples, "requests_per_cpu_s", floor, theirs),
        ),
    ]
    print(f"k = {chosen.k}, {size} bytes of body\n")
    return finish_samples("fallback", chosen, samples, findings)


if __name__ == "__main__":
    script(main)
