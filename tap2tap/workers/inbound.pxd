import cython

from tap2tap.workers.arena cimport Arena
from tap2tap.workers.offload.join cimport Joiner
from tap2tap.workers.receive cimport Receiver
from tap2tap.workers.train cimport Train
from tap2tap.workers.write cimport Writer

cdef int IDLE, BYTES, DATAGRAMS, TRAINS


@cython.locals(counts="unsigned long long[::1]", due="long long")
cpdef inbound(object cable, object pin, object channel)
