"""Publication against a Hub on this machine, with the real client over HTTP in processes of its own."""

from __future__ import annotations


def test_try(hub, family):
    folders = sorted(family.iterdir())
    print(hub.run("publish", *folders, "--namespace", "brineylab", "--collection", "CurrAb", "--dry-run"))
    print(hub.run("publish", *folders, "--namespace", "brineylab", "--collection", "CurrAb"))
    print(hub.run("publish", *folders, "--namespace", "brineylab", "--collection", "CurrAb"))
    print(hub.run("verify", "350M-F"))
