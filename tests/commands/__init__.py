"""The commands beside the tunnel."""
