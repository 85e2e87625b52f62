"""The control plane: makes the tap, the UDP socket and the counter block; starts, watches and replaces its children."""
