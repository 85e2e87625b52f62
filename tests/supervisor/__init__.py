"""The control plane, module by module."""
