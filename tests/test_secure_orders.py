"""What the supervisor tells the seal and open stages, and what it hears from them."""

from tap2tap.counters import Count, Slot
from tap2tap.protocols.secure import wire
from tap2tap.protocols.secure.mailbox import Order, Proved, Task
from tap2tap.protocols.secure.wire import CONTROL_COUNTERS, OVERHEAD, Cipher
from tap2tap.workers.train import Batch
from tests.frames import contents
from tests.pair import THERE, numbered, pair


def test_nothing_is_sealed_without_a_session_or_beyond_its_last_counter() -> None:
    with pair() as both:
        assert both.sealed(numbered(80, 80)) == []
        both.session(7)
        assert len(both.sealed(numbered(80, 80))) == 2
        both.block.outbound[Count.SESSION + 7] = wire.REJECT_AFTER_MESSAGES - 2
        assert both.opened(both.sealed(numbered(80, 80))) == numbered(80, 80)
        assert both.sealed(numbered(80)) == []
        both.session(8)
        both.out.order(Order(Task.STOP))
        assert both.sealed(numbered(80, 80, 80)) == []
        assert both.block.outbound[Count.SESSION + 8] == CONTROL_COUNTERS
        assert both.drops_of(both.block.outbound) == {"NO_SESSION": 6}


def test_a_closed_session_is_forgotten_and_its_slot_serves_another() -> None:
    with pair(7) as both:
        late = both.sealed(numbered(80))
        both.opened(both.sealed(numbered(*[80] * 60)))
        both.into.order(Order(Task.CLOSE, index=7))
        both.session(39)  # 32 further: the same slot
        assert both.opened(late) == []
        assert both.drops == {"NO_SESSION": 1}
        assert both.opened(both.sealed(numbered(80, 80))) == numbered(80, 80)


def test_a_keepalive_is_sent_when_ordered_and_heard_but_no_frame() -> None:
    with pair(7) as both:
        assert both.seal.keepalive() is None
        both.out.order(Order(Task.KEEPALIVE))
        frames = numbered(80, 80)
        data = both.sealed(frames)  # reads the order, too
        keepalive = both.seal.keepalive()
        assert keepalive is not None
        assert [len(each) for each in contents(keepalive)] == [OVERHEAD]
        assert both.seal.keepalive() is None
        alone = contents(keepalive)
        both.out.order(Order(Task.KEEPALIVE))
        behind = contents(both.seal.keepalive() or Batch())
        assert both.opened(alone, THERE) == []
        assert both.block.slots[Slot.PEER_HEARD]
        assert both.peer == "198.51.100.7:4321"
        assert both.opened([*data, *behind]) == frames  # the kernel may put it behind longer ones
        assert both.block.inbound[Count.KEEPALIVES] == 2
        assert both.opened([*alone, *behind]) == []
        assert both.drops == {"REPLAY": 2}


def test_the_supervisor_hears_of_the_first_authentic_datagram_and_of_the_peers_supervisor() -> None:
    with pair(7) as both:
        data = both.sealed(numbered(80, 80, 80))
        both.opened([bytes(each[:-1]) + b"?" for each in data])
        assert list(both.into.notices()) == []
        both.opened(data[:1], THERE)
        both.opened(data)
        (proved,) = both.into.notices()
        assert isinstance(proved, Proved)
        assert (proved.index, str(proved.source)) == (7, "198.51.100.7:4321")
        control = wire.keepalive(Cipher.AES_256_GCM, (7).to_bytes(32, "big"), 7, CONTROL_COUNTERS - 1)
        both.opened([control])
        assert [type(each) for each in both.into.notices()] == [Proved]
        both.opened([control])  # a replay is none
        assert list(both.into.notices()) == []


def test_the_peer_is_where_its_newest_authentic_datagram_came_from() -> None:
    with pair(7) as both:
        old, new, newer = both.sealed(numbered(80, 80, 80))
        both.opened([new])
        assert both.peer == "192.0.2.1:1234"
        for datagram in (old, new, newer[:-1] + b"?", b"?" * 60):  # late, replayed, forged, rubbish
            both.opened([datagram], THERE)
            assert both.peer == "192.0.2.1:1234"
        both.opened([newer], THERE)
        assert both.peer == "198.51.100.7:4321"
