"""Offload: super-frames of the tap are split into frames, and frames joined to super-frames.

This is the only code of the data plane that knows IP, TCP and UDP.
"""
