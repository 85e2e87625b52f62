"""The data plane: one process a direction, outbound (tap to UDP) and inbound (UDP to tap)."""

import os

# NumPy's linear algebra would start threads that nobody here uses and that a fork does not carry over.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
