import cython

from tap2tap.workers.arena cimport Arena
from tap2tap.workers.gather cimport Gather
from tap2tap.workers.offload.split cimport Splitter
from tap2tap.workers.path cimport Path
from tap2tap.workers.send cimport Sender
from tap2tap.workers.stages.peer cimport Address
from tap2tap.workers.tap cimport Tap
from tap2tap.workers.train cimport Train

cdef int IDLE, FRAMES, BYTES, DATAGRAMS, TRAINS, KEEPALIVES, CONTROL, MAIL, NO_PEER
cdef int BEAT


@cython.locals(counts="unsigned long long[::1]", sent="long long", due="long long", mail="long long")
cpdef outbound(object cable, object pin, object channel)
