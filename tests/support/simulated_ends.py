"""The two ends of a simulated cable: their keys, their addresses, and what an attacker may have recorded of them."""

import ipaddress
import os

from tap2tap.endpoint import Endpoint
from tap2tap.keys import CableKeys, public_key
from tap2tap.protocols.secure.handshake import FEATURE_CONTROL, NO_COOKIE, Identity, Initiation, Offer


def at(address: str, port: int = 1234) -> Endpoint:
    return Endpoint(ipaddress.ip_address(address), port)


HOME, VPS, ELSEWHERE = at("192.0.2.1"), at("198.51.100.1"), at("203.0.113.66")


def make_keys() -> tuple[CableKeys, CableKeys]:
    one, other, psk = os.urandom(32), os.urandom(32), os.urandom(32)
    return CableKeys(one, public_key(other), psk), CableKeys(other, public_key(one), psk)


def recordings(sender: CableKeys, count: int, cookie: bytes = NO_COOKIE) -> list[bytes]:
    """Genuine initiations, as many as an attacker on the path had the patience to collect."""
    identity = Identity(sender)
    offers = (Offer(number + 1, True, 25, 1500, FEATURE_CONTROL) for number in range(count))
    return [Initiation(identity, offer, ephemeral=os.urandom(32), cookie=cookie).datagram for offer in offers]
