"""What happens to the protected VMs, as this node's guard sees it: lease, VM, and the guard itself.

Reports changes, and every `repeat_s` again an expired or free lease that nobody takes, and a guest that hangs. Events
are `salt/beacon/<minion>/mnvm_health/<cluster>/<vm>/<event>` and `…/mnvm_health/<cluster>/guard_unreachable`
(docs/architecture.md lists them all). Each carries cluster, vm, node, epoch, seq, index, holder, attempt, text.

.. code-block:: yaml

    beacons:
      mnvm_health:
        - interval: 1
        - cluster: example      # required; the tags carry it even if the guard can't be asked
        - announce_s: 2.5       # lease_expiring so long before a lease expires; 0: never
        - repeat_s: 5           # lease_expired, lease_released and vm_hung again, with a growing `attempt`; the first
                                # two after twice as long each time, up to a minute
        - settle_s: 2           # a free lease is reported after so long: whoever freed it may be moving it on already
        - timeout_s: 0.3        # of the guard's socket; the minion's loop waits as long

The beacon runs in the minion's own loop, so it asks the guard's socket with that short timeout and nothing
else. It holds no logic of failover: `attempt` counts the repetitions by the lease's own age, so that two nodes,
or a restarted minion, give the same event the same number.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

__virtualname__ = "mnvm_health"

DEFAULTS = {"announce_s": 2.5, "repeat_s": 5.0, "settle_s": 2.0, "timeout_s": 0.3}
LIMITS = {"announce_s": (0, 3600), "repeat_s": (1, 3600), "settle_s": (0, 60), "timeout_s": (0.05, 0.3)}
REMIND_S = 60.0
LONGEST_PAUSE_S = 60.0
"""Each report of a lease that nobody takes has every master look for a candidate. A node that becomes one takes it
unasked, unless `masterless_takeover_after_s` is 0: then it waits for the next report."""
COMMON = {"interval": (int, float), "enabled": bool, "run_once": bool, "disable_during_state_run": bool,
          "beacon_module": str, "_beacon_name": str}  # fmt: skip
WARM = ("mnvm.plan_failover", "guard.takeover", "consul_ha.claim")
"""Functions of a failover. Looking them up loads their modules here, in the parent of all jobs: their forks
need not.
"""


def __virtual__():
    return __virtualname__


def validate(config: Any) -> tuple[bool, str]:
    """Whether the beacon's configuration is right; an unknown or misspelt key is not."""
    if not isinstance(config, list) or not all(isinstance(part, dict) for part in config):
        return False, "Configuration for mnvm_health beacon must be a list of mappings."
    options = {key: value for part in config for key, value in part.items()}
    for key, value in options.items():
        if key in COMMON:
            if not isinstance(value, COMMON[key]):
                return False, f"mnvm_health: {key} is {value!r}, of a wrong type."
        elif key in LIMITS:
            low, high = LIMITS[key]
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                return False, f"mnvm_health: {key} is {value!r}, not a number from {low} to {high}."
        elif key != "cluster":
            return False, f"mnvm_health: unknown key {key!r}; known are cluster, interval, {', '.join(LIMITS)}."
    if not isinstance(options.get("cluster"), str) or not options["cluster"]:
        return False, "mnvm_health: `cluster` is missing, the cluster's name."
    return True, "Valid beacon configuration"


def beacon(config: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ask the guard once and return the events of what has changed."""
    options = {**DEFAULTS, **{key: value for part in config for key, value in part.items()}}
    memory = __context__.setdefault("mnvm_health", {})
    if not memory.get("warm"):
        memory["warm"] = [name for name in WARM if name in __salt__]
    cluster = options["cluster"]
    try:
        status = __salt__["guard.status"](timeout_s=options["timeout_s"])
    except (CommandExecutionError, KeyError) as error:
        return _unreachable(memory, cluster, str(error))
    events = []
    if memory.pop("unreachable", None):
        events.append({"tag": f"{cluster}/guard_back", "cluster": cluster, "text": "the guard answers again"})
    sees_consul = bool((status.get("consul") or {}).get("reachable", True))
    for vm, now in sorted((status.get("vms") or {}).items()):
        before = memory.setdefault("vms", {}).setdefault(vm, {})
        facts = {"cluster": cluster, "vm": vm, "node": status.get("node"), "guard_boottime_s": status.get("boottime_s")}
        found = _vm_events(before, now, facts, status.get("watchdog") or {}, options)
        if sees_consul:
            found += _lease_events(before, now, facts, options)
        events += [{"tag": f"{cluster}/{vm}/{name}", **event} for name, event in found]
    return events


def _unreachable(memory: dict[str, Any], cluster: str, why: str) -> list[dict[str, Any]]:
    """The guard does not answer; said once a minute, for the first time may come before any master is connected."""
    now_s = time.monotonic()
    if now_s < memory.get("unreachable", 0.0):
        return []
    memory["unreachable"] = now_s + REMIND_S
    return [{"tag": f"{cluster}/guard_unreachable", "cluster": cluster, "text": why}]


Events = list[tuple[str, dict[str, Any]]]


def _lease_events(
    before: dict[str, Any], now: dict[str, Any], facts: dict[str, Any], options: dict[str, Any]
) -> Events:
    """A lease that expires, has expired, is free, or has a new holder."""
    lease = now.get("lease")
    if not lease:
        return []
    known = {key: lease.get(key) for key in ("holder", "epoch", "seq", "index", "phase")}
    held = None if lease["phase"] == "released" else (lease["holder"], lease["epoch"])
    events: Events = []
    if held is not None and "held" in before and before["held"] != held:
        text = f"{held[0]} has the lease, epoch {held[1]}: {lease.get('reason', '')}"
        events.append(("lease_held", {**facts, **known, "text": text}))
    before["held"] = held
    name, attempt = _lease_trouble(before, now, lease, facts["node"], options)
    mark = (name, lease["epoch"], lease["index"], attempt)
    if name and mark != before.get("mark"):
        holder = lease["holder"] or "nobody"
        text = {
            "lease_expiring": f"{holder} has not renewed the lease for {lease['age_s']:.1f} s",
            "lease_expired": f"the lease of {holder} has expired, not renewed for {lease['age_s']:.1f} s",
            "lease_released": f"the lease is free: {lease.get('reason', '')}",
        }[name]
        events.append((name, {**facts, **known, "attempt": attempt, "age_s": lease["age_s"], "text": text}))
    before["mark"] = mark
    return events


def _lease_trouble(
    before: dict[str, Any], now: dict[str, Any], lease: dict[str, Any], node: str | None, options: dict[str, Any]
) -> tuple[str, int]:
    """The event that the lease's state is worth at this moment, with its attempt; ("", 0) if none."""
    if now.get("desired") != "started" or lease["holder"] == node:
        before.pop("free", None)
        return "", 0
    if lease["phase"] == "released" or not lease["holder"]:
        # The lease's age tells nothing here: it may have been free for days before it was wanted.
        # One that was taken and given back since the last look is another story.
        if before.get("free", (None, 0.0))[0] != lease["index"]:
            before["free"] = lease["index"], time.monotonic()
        free_s = time.monotonic() - before["free"][1]
        ready = free_s >= options["settle_s"]
        return ("lease_released", _attempt(free_s - options["settle_s"], options["repeat_s"])) if ready else ("", 0)
    before.pop("free", None)
    if lease.get("expired"):
        return "lease_expired", _attempt(-lease["expires_in_s"], options["repeat_s"])
    if lease.get("overdue") and lease["expires_in_s"] <= options["announce_s"]:
        return "lease_expiring", 0
    return "", 0


def _attempt(waited_s: float, repeat_s: float) -> int:
    """The number, from 1, of the newest report that is due of a lease that nobody takes since `waited_s`."""
    attempt, due_s, pause_s = 1, repeat_s, repeat_s
    while waited_s >= due_s and pause_s < LONGEST_PAUSE_S:
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        due_s += pause_s
        attempt += 1
    return attempt + (1 + int((waited_s - due_s) // pause_s) if waited_s >= due_s else 0)


def _vm_events(
    before: dict[str, Any],
    now: dict[str, Any],
    facts: dict[str, Any],
    watchdog: dict[str, Any],
    options: dict[str, Any],
) -> Events:
    """What has happened to the VM on this node since the last look; nothing at the first."""
    lease = now.get("lease") or {}
    seen = {
        "vm": now.get("vm"),
        "mine": lease.get("holder") == facts["node"] and lease.get("phase") != "released",
        "fence": (now.get("last_fence") or {}).get("at_s", (now.get("last_fence") or {}).get("at")),
        "failed": now.get("starts_failed") or 0,
        "unprotected": now.get("vm") == "running" and bool(watchdog.get("failing")),
    }
    last, before["seen"] = before.get("seen"), seen
    if last is None:
        return []
    more = {**facts, "epoch": lease.get("epoch"), "holder": lease.get("holder"), "sentence": now.get("sentence")}
    events: Events = []
    if seen["fence"] != last["fence"] and now.get("last_fence"):
        events.append(("fenced", {**more, "text": now["last_fence"].get("reason", "")}))
    if seen["failed"] > last["failed"]:
        events.append(("vm_failed", {**more, "failed": seen["failed"], "text": now.get("sentence", "")}))
    health = now.get("health") or {}
    if attempt := _hung_again(before, now, REMIND_S if health.get("on_hung") == "report" else options["repeat_s"]):
        # With the process: of several resets only the first may find it.
        why = health.get("why", "")
        events.append(("vm_hung", {**more, "vm_pid": now.get("vm_pid"), "attempt": attempt, "text": why}))
    if seen["unprotected"] != last["unprotected"] and now.get("vm") == "running":
        name = "vm_unprotected" if seen["unprotected"] else "vm_protected"
        events.append((name, {**more, "text": watchdog.get("why", "") or "the watchdog is armed"}))
    reported = ("running", "off", "paused") if seen["mine"] or last["mine"] else ("running", "paused")
    if seen["vm"] != last["vm"] and seen["vm"] in reported:
        text = (now.get("paused") or {}).get("why") or now.get("sentence", "")
        events.append((f"vm_{seen['vm']}", {**more, "text": text}))
    return events


def _hung_again(before: dict[str, Any], now: dict[str, Any], repeat_s: float) -> int:
    """The number of the report that is due of a guest that hangs, from 1; 0: none is due."""
    if not (now.get("health") or {}).get("hung"):
        before.pop("hung", None)
        return 0
    since_s, told = before.get("hung", (time.monotonic(), 0))
    attempt = 1 + int((time.monotonic() - since_s) // repeat_s)
    before["hung"] = since_s, attempt
    return attempt if attempt > told else 0
