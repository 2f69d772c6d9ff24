"""Where the time goes between an event on a minion and an execution module on another one.

    python tests/bench/salt_latency.py [--rounds 12] [--json FILE] [--threads] [--cold]

Starts one master and two minions on loopback in a scratch folder, fires each path's event from a beacon and
notes CLOCK_MONOTONIC at each hop (one machine, one clock). Prints a Markdown table: seconds since the beacon's
return.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support.salt_cluster import SaltCluster, wait_until

BENCH_ROOT = Path(__file__).parent / "latency_root"
PATHS = {
    "local": ("reactor -> local", "exec_first"),
    "runner": ("reactor -> runner -> two calls", "second_back"),
    "orch": ("reactor -> orchestrate (salt.function × 2)", "exec_second"),
    "orch_runner": ("reactor -> orchestrate -> salt.runner -> two calls", "second_back"),
}


def read_marks(marks: Path, run: str) -> dict[str, float]:
    found: dict[str, float] = {}
    if marks.exists():
        for line in marks.read_text().splitlines():
            name, hop, at = line.split()
            if name == run:
                found.setdefault(hop, float(at))
    return found


def one_round(path: str, number: int, trigger: Path, marks: Path) -> dict[str, float]:
    """Trigger one event and wait for the last hop; seconds since the beacon for each hop."""
    run = f"{path}-{number}"
    temporary = trigger.with_suffix(".new")
    temporary.write_text(f"{path} {run}")
    temporary.rename(trigger)
    last = PATHS[path][1]
    found = wait_until(lambda: (m := read_marks(marks, run)) and last in m and m, 60, f"{run}: {last}")
    return {hop: at - found["beacon"] for hop, at in found.items() if hop != "beacon"}


def calls(cluster: SaltCluster, rounds: int) -> list[float]:
    """One blocking LocalClient.cmd of a function that does nothing."""
    times = []
    with cluster.client("m1") as client:
        for _ in range(rounds):
            start = time.monotonic()
            assert client.cmd("node2", "lat.noop", timeout=5) == {"node2": True}
            times.append(time.monotonic() - start)
    return times


def salt_run(cluster: SaltCluster, rounds: int) -> list[float]:
    """`salt-run` with a runner that does nothing: what an operator's verb costs before it works."""
    times = []
    for _ in range(rounds):
        start = time.monotonic()
        assert cluster.run("m1", "test.arg").returncode == 0
        times.append(time.monotonic() - start)
    return times


def measure(root: Path, rounds: int, threads: bool, cold: bool) -> dict[str, dict[str, list[float]]]:
    trigger, marks = root / "trigger", root / "marks"
    reactor = [{f"salt/beacon/*/lat/{path}/*": [str(BENCH_ROOT / "reactor" / f"{path}.sls")]} for path in PATHS]
    beacons = {"lat": [{"trigger": str(trigger)}, {"marks": str(marks)}, {"interval": 1}]}
    cluster = SaltCluster(
        root,
        salt_roots=[BENCH_ROOT],
        master_opts={"reactor": reactor, "reactor_refresh_interval": 1 if cold else 86400},
        minion_opts={"multiprocessing": not threads},
        per_minion_opts={"node1": {"beacons": beacons}},
    )
    results: dict[str, dict[str, list[float]]] = {}
    with cluster:
        cluster.salt("m1", "saltutil.sync_all", timeout_s=30)
        results["call"] = {"one LocalClient.cmd and back": calls(cluster, rounds)}
        results["salt-run"] = {"salt-run test.arg": salt_run(cluster, 3)}
        for path in PATHS:
            one_round(path, -1, trigger, marks)  # the first renders and loads
            first = one_round(path, 0, trigger, marks)
            hops: dict[str, list[float]] = {hop: [] for hop in first}
            for number in range(1, rounds + 1):
                time.sleep(1.5 if cold else 0)  # longer than the reactor remembers what it has loaded
                for hop, seconds in one_round(path, number, trigger, marks).items():
                    hops.setdefault(hop, []).append(seconds)
            results[path] = hops
    return results


def table(results: dict[str, dict[str, list[float]]]) -> str:
    lines = ["| path | hop | median s | p95 s | max s | n |", "|---|---|---|---|---|---|"]
    for path, hops in results.items():
        title = PATHS[path][0] if path in PATHS else path
        for hop, times in sorted(hops.items(), key=lambda item: statistics.median(item[1])):
            ordered = sorted(times)
            p95 = ordered[min(len(ordered) - 1, round(0.95 * len(ordered)))]
            lines.append(
                f"| {title} | {hop} | {statistics.median(times):.2f} | {p95:.2f} | {ordered[-1]:.2f} | {len(times)} |"
            )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--threads", action="store_true", help="minions run jobs in threads (multiprocessing: false)")
    parser.add_argument("--cold", action="store_true", help="let the reactor forget its runners before each round")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the daemons are ended then too
    with tempfile.TemporaryDirectory(prefix="lat") as folder:
        results = measure(Path(folder), options.rounds, options.threads, options.cold)
    print(table(results))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
