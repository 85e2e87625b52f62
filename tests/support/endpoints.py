"""Endpoints for property tests."""

from hypothesis import strategies as st

from tap2tap.endpoint import Address, Endpoint


def addresses(version: int) -> st.SearchStrategy[Address]:
    """Addresses of one version, but for IPv4 in an IPv6 coat."""
    return st.ip_addresses(v=version).filter(lambda each: not str(each).startswith("::ffff:"))  # type: ignore[arg-type]


PORTS = st.integers(0, 2**16 - 1)


@st.composite
def endpoints(draw: st.DrawFn, ports: st.SearchStrategy[int] = PORTS, *, local: bool = True) -> Endpoint:
    """Any endpoint; `local`: perhaps with our own address."""
    version = draw(st.sampled_from((4, 6)))
    ours = st.none() | addresses(version).filter(lambda each: any(each.packed)) if local else st.none()
    return Endpoint(draw(addresses(version)), draw(ports), draw(st.integers(0, 2**32 - 1)), draw(ours))
