"""A virtual Ethernet cable between two Linux hosts: a tap device on each, frames shuffled between them over UDP."""

__version__ = "0.1.0"
