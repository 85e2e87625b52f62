"""The firewall of a host in a lab."""

import subprocess

from tap2tap.demo.lab import Host
from tests.conftest import lacking


def nft(host: Host, *commands: str) -> None:
    """Have the firewall of a host changed."""
    try:
        for command in commands:
            host.run(["nft", *command.split()])
    except (OSError, subprocess.CalledProcessError) as error:
        lacking(f"nft: {error}")
