"""What can be told about a share: n requests, of which s went wrong.

Each request is a variable between 0 and 1, so `s` may be fractional (coverage: the part of its slots left
unfilled). For such variables the probability that the share of `n` of them lies as far from its expectation
q as p does is at most exp(-n · kl(p, q)) (Chernoff; Hoeffding 1963, theorem 1, which holds for dependent
ones too as long as each is right on average given those before). Turned around it bounds q. Evidence is in
nats: e of it are odds of exp(e) to 1.
"""

from math import ceil, exp, expm1, inf, lgamma, log, log1p, sqrt
from typing import Final

CONFIDENT: Final = log(20.0)
"""Evidence that is enough where being wrong costs little, in nats: 20 to 1, a bound at 95 %."""
_ROUNDS: Final = 20
_NEVER: Final = 10**9


def kl(p: float, q: float) -> float:
    """How badly a share of q explains one of p, in nats a request. 0 < q < 1."""
    if p <= 0.0:
        return -log1p(-q)
    if p >= 1.0:
        return -log(q)
    return p * log(p / q) + (1.0 - p) * log((1.0 - p) / (1.0 - q))


def over(n: float, s: float, share: float) -> float:
    """Evidence that more than `share` goes wrong; 0 where no more than that did."""
    p = min(s / n, 1.0) if n else 0.0
    return n * kl(p, share) if p > share else 0.0


def under(n: float, s: float, share: float) -> float:
    """Evidence that less than `share` goes wrong; 0 where as much did."""
    p = min(s / n, 1.0) if n else share
    return n * kl(p, share) if p < share else 0.0


def upper(n: float, s: float, evidence: float) -> float:
    """The largest share that so much evidence does not exclude."""
    p = min(s / n, 1.0) if n else 1.0
    if p >= 1.0:
        return 1.0
    c = evidence / n
    if p <= 0.0:
        return -expm1(-c)
    # Two bounds that lie further out. From there Newton's steps come nearer without passing the root, since
    # kl(p, ·) is convex: wherever they end, the bound holds.
    entropy = -p * log(p) - (1.0 - p) * log1p(-p)
    q = min(p + c + sqrt(c * (c + 2.0 * p)), -expm1(-(c + entropy) / (1.0 - p)))
    for _ in range(_ROUNDS):
        if q >= 1.0:
            return 1.0
        excess = kl(p, q) - c
        if excess <= 3e-4 * c:
            break
        q -= excess * q * (1.0 - q) / (q - p)
    return q


def lower(n: float, s: float, evidence: float) -> float:
    """The smallest share that so much evidence does not exclude."""
    return 1.0 - upper(n, n - min(s, n), evidence) if n else 0.0


def needed(n: float, s: float, share: float, evidence: float) -> int | None:
    """How many requests beyond n, at the same rate, until it is told that this is not `share`.

    None: never, or so many that nobody lives to see them.
    """
    rate = kl(min(s / n, 1.0), share) if n else 0.0
    total = evidence / rate if rate > 0.0 else inf
    return max(ceil(total - n), 0) if total < _NEVER else None


def odds(share: float, ratio: float) -> float:
    """The share whose odds are `ratio` times those of this one: for a small one, `ratio` times as much."""
    return ratio * share / (1.0 - share + ratio * share)


def chance(n: float, s: float, m: float, t: float) -> float:
    """How probable at least s of n going wrong is, where t of m others did and it is all the same.

    Fisher's exact test: given s + t, how many fall among the n is hypergeometric. Parts of a request are
    left out on the one side and made up on the other.
    """
    own, others, size, rest = int(s), ceil(t), ceil(n), ceil(m)
    wrong = own + others
    if not own or not rest:
        return 1.0
    most = min(size, wrong)

    def weight(k: int) -> float:
        return (
            _choose(size, k) + _choose(rest, wrong - k) - _choose(size + rest, wrong)
            if wrong - k <= rest
            else -inf
        )

    term = exp(weight(own)) if weight(own) > -inf else 0.0
    total = term
    for k in range(own, most):
        term *= (size - k) * (wrong - k) / ((k + 1.0) * (rest - wrong + k + 1.0))
        total += term
        if term <= total * 1e-9:
            break
    return min(total, 1.0)


def _choose(n: int, k: int) -> float:
    return lgamma(n + 1.0) - lgamma(k + 1.0) - lgamma(n - k + 1.0)
