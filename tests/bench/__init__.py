"""The benchmark: tap2tap against other tunnels on one machine, with the same traffic. Run it by `make bench`.

Each peer gets a fresh lab of two hosts on one veth pair; the peers take turns, and the whole round is repeated, so that
a noisy machine shows as spread and not as a winner. Both ends of the tunnel and of the traffic share one machine: only
ratios within one run mean anything.
"""
