"""A holder's renewals, from its guard's status: a count of their own for a test, and a line of figures."""

from __future__ import annotations

from typing import Any

from tests.support.scene import Scene, eventually


def count_anew(scene: Scene) -> None:
    """Replace the holder's guard by a fresh one, which counts from its first renewal; the VM is not touched."""
    since_s = scene.guard(scene.holder)["guard"]["since_s"]
    scene.cluster.run(scene.holder, ["systemctl", "reload", "mnha-guard"], check=True)
    eventually(lambda: scene.guard(scene.holder)["guard"]["since_s"] > since_s, 15, "a new guard answers")
    eventually(lambda: (of(scene) or {}).get("granted"), 15, "it renews the lease")


def of(scene: Scene) -> dict[str, Any] | None:
    """The renewals of the scene's holder; None before the first."""
    return scene.status(scene.holder)["renewals"]


def line(told: dict[str, Any]) -> str:
    """How the renewals went, for people."""
    return (
        f"renewals: {told['granted']} granted, {told['late']} of them late, {told['refused']} refused, "
        f"{told['lost']} lost; answers median {told['median_s'] * 1000:.0f} ms, p99 {told['p99_s'] * 1000:.0f} ms, "
        f"longest {told['longest_s']:.2f} s; longest gap {told['longest_gap_s']:.2f} s"
    )
