"""The secure protocol, without I/O."""
