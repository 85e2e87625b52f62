"""The stages of the secure protocol (docs/protocol.md)."""
