"""Tests of tap2tap.workers.offload."""
