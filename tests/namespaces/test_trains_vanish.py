"""Something below loses trains of datagrams in silence, while single ones pass: noticed, told once, and got round."""

from pathlib import Path

from tap2tap.demo.lab import Lab
from tests.support.nft import nft
from tests.support.secured import secured, wait_up
from tests.support.traffic import Stream, bulk
from tests.support.tunnel import RIGHT

LINE = "--no-segmentation"


def test_bulk_goes_on_datagram_by_datagram(lab: Lab, tmp_path: Path) -> None:
    with secured(lab.left, lab.right, tmp_path) as (client, server):
        wait_up(client, server)
        nft(
            lab.left,
            "add table netdev thief",
            "add chain netdev thief out { type filter hook egress device eth0 priority 0 ; }",
            "add rule netdev thief out meta length > 2000 counter drop",
        )
        stream = Stream(lab.left, lab.right, RIGHT, 32 << 20).start()
        client.wait_said(LINE)
        stream.check()
        before = stolen(lab)
        assert before > 0
        bulk(lab.left, lab.right, RIGHT, size=8 << 20)
        assert stolen(lab) == before
        assert len([line for line in client.log if LINE in line]) == 1
        assert not server.said(LINE)


def stolen(lab: Lab) -> int:
    """How many trains were lost."""
    rules = lab.left.run(["nft", "list", "table", "netdev", "thief"]).stdout
    return int(rules.split("counter packets ")[1].split()[0])
