"""The lab's command line: `python3 -m lab VERB`."""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys

from lab import provision
from lab.cluster import Cluster, lock
from lab.settings import NETWORKS, LabError, Settings

WITH_EXIT_CODE = ("build", "status", "shell", "run", "switch", "console", "check", "demo")


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python3 -m lab", description="A real cluster of KVM nodes on one machine.")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, text: str, *positional: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=text, description=text)
        for word in positional:
            sub.add_argument(word)
        return sub

    verb("prepare", "install the packages this machine needs")
    sub = verb("build", "build what the nodes are made of (cached)")
    sub.add_argument("--bare", action="store_true", help="without the layer of installed packages")
    sub.add_argument("--peer", action="store_true", help="with the packages of the peer benchmark")
    sub = verb("up", "make a fresh cluster and install the product on it")
    sub.add_argument("--nodes", type=int, default=3, help="3 (default) or 5")
    sub.add_argument("--bare", action="store_true", help="nodes install every package themselves")
    sub.add_argument("--peer", action="store_true", help="offer the peer benchmark's packages too")
    sub.add_argument("--no-provision", action="store_true", help="bare nodes only, without the product")
    provision = verb("provision", "install the product on the running cluster")
    for each in (sub, provision):
        each.add_argument("--timings", choices=("default", "fast"), default="default", help="profile of the lease")
    verb("demo", "make a cluster, start the VM, cut its node's power, show the failover, remove all")
    verb("down", "remove the cluster and all that belongs to it")
    sub = verb("status", "which nodes have power, are frozen, are cut")
    sub.add_argument("--json", action="store_true")
    sub = verb("shell", "a shell on a node, or a command with a terminal", "node")
    sub.add_argument("command", nargs=argparse.REMAINDER, help="-- CMD ...")
    sub = verb("run", "run a command on a node; its exit code is ours", "node")
    sub.add_argument("--timeout", type=float, default=600, dest="timeout_s", help="seconds (default 600)")
    sub.add_argument("command", nargs=argparse.REMAINDER, help="-- CMD ...")
    sub = verb("switch", "run a command of this machine in the cluster's network")
    sub.add_argument("command", nargs=argparse.REMAINDER, help="-- CMD ...")
    for name, text in (("poweroff", "cut a node's power"), ("poweron", "give it back"), ("reboot", "orderly reboot"),
                       ("freeze", "hang a node"), ("thaw", "let it go on")):  # fmt: skip
        verb(name, text, "node")
    sub = verb("cut", "cut a node off a network", "node")
    sub.add_argument("network", choices=NETWORKS)
    sub.add_argument("--direction", choices=("in", "out", "both"), default="both", help="as seen from the node")
    sub.add_argument("--percent", type=int, default=100, help="drop only this share of the packets")
    sub = verb("delay", "let what passes a node's cable arrive later", "node")
    sub.add_argument("network", choices=NETWORKS)
    sub.add_argument("milliseconds", type=float)
    sub.add_argument("--direction", choices=("in", "out", "both"), default="both", help="as seen from the node")
    sub = verb("heal", "end a node's cuts and delays", "node")
    sub.add_argument("network", choices=NETWORKS, nargs="?")
    sub = verb("valve", "put a valve into a node's way to the shared folder, while the VM is elsewhere", "node")
    sub.add_argument("--unkillable", action="store_true", help="what waits behind it can't be killed")
    verb("hang", "close a node's valve: every access to the shared folder waits", "node")
    verb("unhang", "open it again", "node")
    sub = verb("console", "follow the VM's serial console on a node", "node")
    sub.add_argument("--no-follow", action="store_true")
    sub = verb("check", "prove from disk and consoles that no two instances overlapped")
    sub.add_argument("--json", action="store_true")
    return top


def command_of(words: list[str]) -> list[str]:
    return words[1:] if words[:1] == ["--"] else words


def print_status(cluster: Cluster, as_json: bool) -> int:
    status = cluster.status()
    if as_json:
        print(json.dumps(status, indent=1))
    elif not status["up"]:
        print("no cluster: `python3 -m lab up` makes one")
    else:
        for name, node in status["nodes"].items():
            cuts = ", ".join(f"{cut['network']} {cut['direction']} {cut['percent']}%" for cut in node["cuts"])
            late = ", ".join(f"{d['network']} out {d['out_ms']:g} in {d['in_ms']:g} ms" for d in node["delays"])
            state = "frozen" if node["frozen"] else node["power"]
            told = f"{'cut: ' + cuts if cuts else ''} {'delayed: ' + late if late else ''}"
            print(f"{name}  {state:7} {node['mgmt']:15} {node['storage']:15} {told}".rstrip())
    return 0 if status["up"] else 1


def enter(cluster: Cluster, options: argparse.Namespace) -> int:
    """`shell` and `run`: the command's own exit code, 124 when it took too long."""
    node = cluster.node(options.node)
    words = command_of(options.command)
    if options.verb == "shell" and not words:
        words = ["script", "--quiet", "--return", "--command", "bash --login", "/dev/null"]
    if not words:
        raise LabError(f"no command: `python3 -m lab run {options.node} -- COMMAND`")
    process = node.popen(words)
    try:
        return process.wait(getattr(options, "timeout_s", None))
    except subprocess.TimeoutExpired:
        from lab.node import kill_tree

        kill_tree(process)
        print(f"`{shlex.join(words)}` did not end in {options.timeout_s:g} s", file=sys.stderr)
        return 124


def check(cluster: Cluster, as_json: bool) -> int:
    from lab import checker

    verdict = checker.check(cluster.settings.disk_image, cluster.consoles())
    print(json.dumps(verdict.as_dict(), indent=1) if as_json else verdict.text())
    return 0 if verdict.ok else 1


def console(cluster: Cluster, options: argparse.Namespace) -> int:
    from lab.cluster import follow

    path = cluster.console(options.node)
    if options.no_follow and not path.is_file():
        raise LabError(f"the VM has not run on {options.node} yet: no {path.name} there")
    for line in follow(path, stop=lambda: options.no_follow):
        print(line, flush=True)
    return 0


def build_only(cluster: Cluster, options: argparse.Namespace) -> int:
    from lab import build, host
    from lab.cluster import work_group

    host.prepare()
    with lock(), work_group():
        pieces = build.build_all(cluster.settings, with_warm=not options.bare, with_peer=options.peer)
    for name, folder in pieces.__dict__.items():
        print(f"{name:7} {folder or '-'}")
    return 0


def up(cluster: Cluster, options: argparse.Namespace) -> None:
    cluster.up(options.nodes, bare=options.bare, peer=options.peer)
    if not options.no_provision:
        provision.provision(cluster, timings=options.timings)


def dispatch(options: argparse.Namespace) -> int:
    from lab import host

    cluster = Cluster(Settings.from_environment())
    special = {
        "prepare": host.prepare,
        "build": lambda: build_only(cluster, options),
        "up": lambda: up(cluster, options),
        "provision": lambda: provision.provision(cluster, timings=options.timings),
        "demo": lambda: show(cluster),
        "down": cluster.down,
        "status": lambda: print_status(cluster, options.json),
        "shell": lambda: enter(cluster, options),
        "run": lambda: enter(cluster, options),
        "switch": lambda: switch(cluster, command_of(options.command)),
        "cut": lambda: cluster.cut(options.node, options.network, options.direction, options.percent),
        "delay": lambda: cluster.delay(options.node, options.network, options.milliseconds, options.direction),
        "heal": lambda: cluster.heal(options.node, options.network),
        "valve": lambda: cluster.add_valve(options.node, killable=not options.unkillable),
        "hang": lambda: cluster.hang_storage(options.node),
        "unhang": lambda: cluster.free_storage(options.node),
        "console": lambda: console(cluster, options),
        "check": lambda: check(cluster, options.json),
    }
    action = special.get(options.verb) or (lambda: getattr(cluster, options.verb)(options.node))
    result = action()
    return result if isinstance(result, int) and options.verb in WITH_EXIT_CODE else 0


def show(cluster: Cluster) -> int:
    from lab.demo import demo

    return demo(cluster)


def switch(cluster: Cluster, words: list[str]) -> int:
    if not words:
        raise LabError("no command: `python3 -m lab switch -- COMMAND`")
    done = cluster.in_switch(words, timeout_s=600)
    sys.stdout.write(done.stdout)
    sys.stderr.write(done.stderr)
    return done.returncode


def main() -> int:
    try:
        return dispatch(parser().parse_args())
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lab: interrupted; `python3 -m lab down` removes what is there", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
