"""Whole tunnels between hosts: every kind of underlay and traffic."""
