"""The control plane: makes the tap, the UDP socket and the counter block; forks, watches and restarts the workers."""
