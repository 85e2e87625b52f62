"""The data plane, module by module."""
