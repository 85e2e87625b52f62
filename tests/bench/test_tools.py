"""The instruments: counting, clocks, datagrams, what perf says."""

import ctypes
import os
import socket
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.load import Samples, middle
from tests.bench.mmsg import Messages
from tests.bench.profile import place, readable, sort, text
from tests.bench.usage import Meter, process_seconds

BUSY = "import time\nwhile time.process_time() < 0.05: pass\nprint(time.process_time(), flush=True)\ninput()"
SCRIPT = """
   71
\tffffffff81800001 copy_to_iter+0x10 ([kernel.kallsyms])
\tffffffff81800002 tun_do_read+0x1 ([kernel.kallsyms])
\tffffffff81800003 ksys_read+0x1 ([kernel.kallsyms])
\tffffffff81800004 do_syscall_64+0x1 ([kernel.kallsyms])
\t    7f0000000001 read+0x1 (/usr/lib/libc.so.6)

   71
\t    7f0000000010 split+0x1 (/x/lib/python3.11/site-packages/tap2tap/workers/offload/split.so)

   72
\t    7f0000000020 aes_gcm (x)+0x1 (/usr/lib/x86_64-linux-gnu/libcrypto.so.3)

   72
\t    7f0000000030 _PyEval_EvalFrameDefault+0x1 (/usr/bin/python3.11)

   72
\tffffffff81800009 [unknown] ([unknown])
"""


@given(
    st.integers(1, 10**6),
    st.lists(st.floats(0, 1), max_size=50).map(sorted),
    st.floats(0, 100),
)
def test_an_even_load_is_counted_right_wherever_the_samples_lie(rate: int, moments: list[float], start: float) -> None:
    samples: Samples = [(start + moment, rate * moment) for moment in (-0.1, *moments, 1.1)]
    assert middle(samples, start, start + 1) == pytest.approx(rate, rel=1e-6)


def test_the_beginning_and_the_end_of_a_load_do_not_count() -> None:
    assert middle([(0, 0), (0.2, 9_000), (0.95, 9_750), (1, 20_000)], 0, 1) == pytest.approx(1000)


def test_the_time_of_a_process_is_what_it_says_itself() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        meter = Meter([os.getpid()])
        assert child.stdout is not None
        own = float(child.stdout.readline())
        assert process_seconds(child.pid) >= own
        assert 0 < meter.cost().tunnel < 60
        child.communicate("\n")
    assert process_seconds(child.pid) == 0
    assert Meter([child.pid]).cost().tunnel == 0


def test_a_process_that_ends_meanwhile_costs_nothing_less() -> None:
    with subprocess.Popen([sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        meter = Meter([child.pid])
        child.communicate(b"\n")
    assert meter.cost().tunnel == 0


@pytest.mark.parametrize(("each", "segment"), [(1, 0), (3, 100)])
def test_messages_arrive_as_datagrams_or_trains(each: int, segment: int) -> None:
    memory = ctypes.create_string_buffer(b"x" * 100 * each, 100 * each)
    with socket.socket(type=socket.SOCK_DGRAM) as sender, socket.socket(type=socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(10)
        sender.connect(receiver.getsockname())
        assert Messages(sender, memory, 4, segment).send() == 4
        assert [receiver.recv(200) for _ in range(4 * each)] == [b"x" * 100] * 4 * each
        Messages(sender, memory, 4, segment).send()
        into = Messages(receiver, ctypes.create_string_buffer(200), 64)
        came = 0
        while came < 4 * each:
            came += into.receive()
        assert came == 4 * each


def test_messages_that_cannot_go_are_an_error() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sender, pytest.raises(OSError, match="address required"):
        Messages(sender, ctypes.create_string_buffer(10), 1).send()


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        ("__pyx_f_7tap2tap_7workers_5arena_5Arena_sum", "arena.Arena.sum"),
        ("__pyx_f_7tap2tap_7workers_7offload_5split_8Splitter_next", "offload.split.Splitter.next"),
        ("__pyx_pw_7tap2tap_7workers_8outbound_1outbound", "outbound.outbound"),
        ("__pyx_tp_new", "__pyx_tp_new"),
        ("_PyEval_EvalFrameDefault", "_PyEval_EvalFrameDefault"),
    ],
)
def test_functions_of_compiled_modules_have_their_python_names(symbol: str, name: str) -> None:
    assert readable(symbol) == name


def test_samples_are_told_apart_by_worker_and_place() -> None:
    found = sort(SCRIPT, {71: "outbound", 72: "inbound"})
    assert found["outbound"].places == {"kernel": 1, "data plane": 1}
    assert found["outbound"].calls == {"read": 1}
    assert found["outbound"].functions == {("kernel", "copy_to_iter"): 1, ("data plane", "split"): 1}
    assert found["inbound"].places == {"libcrypto": 1, "interpreter": 1, "kernel": 1}
    assert found["inbound"].calls == {"interrupts, page faults, entry": 1}
    assert "50.0 %" in text(found, 3)


@pytest.mark.parametrize(
    ("address", "file", "where"),
    [
        (0xFFFFFFFF81000000, "[kernel.kallsyms]", "kernel"),
        (0xFFFFFFFFC0000000, "[tun]", "kernel"),
        (0x7F00, "/v/lib/python3.11/site-packages/tap2tap/workers/arena.cpython-311-x86_64-linux-gnu.so", "data plane"),
        (0x7F00, "/v/lib/python3.11/site-packages/cryptography/hazmat/bindings/_rust.abi3.so", "libcrypto"),
        (0x7F00, "/v/lib/python3.11/site-packages/numpy/_core/_multiarray_umath.so", "NumPy"),
        (0x7F00, "/usr/lib/x86_64-linux-gnu/libpython3.13.so.1.0", "interpreter"),
        (0x7F00, "/usr/lib/x86_64-linux-gnu/libc.so.6", "C library"),
        (0x7F00, "[unknown]", "other"),
    ],
)
def test_an_instruction_belongs_where_its_file_is(address: int, file: str, where: str) -> None:
    assert place(address, file) == where
