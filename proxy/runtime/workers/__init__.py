"""Several processes that carry the traffic, and the one that leads them.

The supervisor owns settings, control, admin and signals, and touches no request. Each worker owns a
data plane and nothing else. Policy goes down and signals come up a socketpair (design, One loop).
"""
