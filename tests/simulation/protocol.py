"""The lease's protocol by itself, in whole ticks, small enough to visit *every* state that it can get into.

The sweep plays the guard's own code, and chooses at random; here nothing is chosen: at each moment everything that may
happen next does, in every order, until no new state is found. So for the rules as they stand here "two nodes never run
the VM" is no sample but a fact, and so is that the inequality `L >= D + K` is as tight as can be: with one tick less
there is a way to two writers, and the shortest one is shown.

What may happen: requests and answers take any time, are lost, or are committed long after their sender has given up;
nodes look at the record as late as they like; a VM dies at any moment of the K that it has; guards die and forget
everything; VMs are started and stopped at any moment. Not here: clocks of different rates (a factor on D + K), a
watchdog that counts whole seconds, migration. Those are the sweep's.

Versions of the record need no numbers: what a node knows of it is either the newest or not, and never becomes so again.
Of the requests that a node has given up, one is enough: those that expect the newest version expect the same, so one of
them is granted at the most.

    python -m tests.simulation.protocol --lease 6 --deadline 3 --kill 2
"""

from __future__ import annotations

import argparse
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

TAKE, RENEW, RELEASE = "take the lease", "renew it", "release it"
OFF, ON = 0, -1
"""A VM; any other number is for how many ticks it may live on, having been killed."""
NEVER = -1
NOBODY = -1


class Request(NamedTuple):
    """A compare-and-set under way; `valid`: the version that it expects is still the newest."""

    kind: str
    valid: bool


class Node(NamedTuple):
    """A guard and its VM.

    :param seen: for how many ticks it has seen the newest version of the record; NEVER: it has not.
    :param right: for how many ticks more it may run the VM; 0: it may not.
    :param current: it holds the lease by the newest version, and knows that.
    :param vm: OFF, ON, or the ticks that are left to a killed one.
    :param asked: its request that is under way, None: there is none.
    :param answer: whether that was granted, once Consul has decided; `valid` then: by what is the newest version still.
    :param age: ticks since it was sent.
    :param ghost: a request that it has given up, which may be committed yet.
    """

    seen: int = NEVER
    right: int = 0
    current: bool = False
    vm: int = OFF
    asked: Request | None = None
    answer: bool | None = None
    age: int = 0
    ghost: Request | None = None


class State(NamedTuple):
    """The whole: the nodes, whom the record names, and whether it says that the lease was given back."""

    nodes: tuple[Node, ...]
    holder: int = NOBODY
    released: bool = False


Step = tuple[str, State]


class Rules(NamedTuple):
    """The timings in ticks, and which rule is broken, if any (`BREACHES`)."""

    lease: int
    deadline: int
    kill: int
    breach: str = ""


BREACHES = {
    "deadline_from_answer": "the deadline counts from the answer, not from before the request",
    "unconditional_take": "a take-over does not ask for the version that was seen unchanged",
    "count_goes_on": "a version that has just been seen does not begin the count anew",
    "release_before_dead": "the lease is given back while the VM may still run",
    "forgets_release": "after the release was sent, an answer under way still grants a right",
    "crash_leaves_vm": "a guard that dies leaves its VM to live on, without a watchdog",
}


def first(count: int) -> State:
    """Nobody holds the lease, nobody has looked."""
    return State((Node(),) * count)


def steps(state: State, rules: Rules) -> Iterator[Step]:
    """Everything that may happen next, a tick of the clock included."""
    yield "a tick", tick(state, rules)
    for index in range(len(state.nodes)):
        for does in (_asks, _gets_through, _hears, _looks, _runs, _fails):
            for text, after in does(state, index, rules):
                yield f"node {index + 1} {text}", after


def tick(state: State, rules: Rules) -> State:
    """A tick of everybody's clock. Whose right ends orders its VM killed; whose time is over is dead."""
    return state._replace(nodes=tuple(_aged(node, rules) for node in state.nodes))


def _aged(node: Node, rules: Rules) -> Node:
    right, vm = max(0, node.right - 1), node.vm
    if vm > 0:
        vm -= 1
    elif vm == ON and node.right and not right:
        vm = rules.kill
    return node._replace(
        seen=node.seen if node.seen == NEVER else min(rules.lease, node.seen + 1),
        right=right,
        current=node.current and right > 0,
        vm=vm,
        age=min(rules.deadline, node.age + 1) if node.asked else 0,
    )


def _put(state: State, index: int, node: Node) -> State:
    return state._replace(nodes=(*state.nodes[:index], node, *state.nodes[index + 1 :]))


def _asks(state: State, index: int, rules: Rules) -> Iterator[Step]:
    """It sends a request, if it has none under way. A release gives its right up at that moment."""
    node = state.nodes[index]
    dead = node.vm == OFF
    if node.right and (dead or rules.breach == "release_before_dead"):
        for ghost in _ghosts(node, Request(RELEASE, node.current)):
            gone = node._replace(right=0, current=False, ghost=ghost)
            if rules.breach != "forgets_release":
                gone = gone._replace(asked=None, answer=None, age=0)
            yield f"asks to {RELEASE}", _put(state, index, gone)
    if node.asked:
        return
    if node.right:
        yield f"asks to {RENEW}", _put(state, index, node._replace(asked=Request(RENEW, node.current), age=0))
    elif dead and _may_take(node, state, rules):
        valid = node.seen != NEVER or rules.breach == "unconditional_take"
        yield f"asks to {TAKE}", _put(state, index, node._replace(asked=Request(TAKE, valid), age=0))


def _ghosts(node: Node, *more: Request) -> Iterable[Request | None]:
    """Which of the requests that a node waits for no more may be committed yet: any one of them, see above."""
    under_way = node.asked if node.answer is None else None
    return dict.fromkeys((*more, under_way, node.ghost))


def _may_take(node: Node, state: State, rules: Rules) -> bool:
    return node.seen >= (0 if state.released else rules.lease)


def _gets_through(state: State, index: int, rules: Rules) -> Iterator[Step]:
    """Consul decides about a request of this node: the one it waits for, or one that it has given up."""
    node = state.nodes[index]
    if node.asked and node.answer is None:
        decided = _put(state, index, node._replace(answer=node.asked.valid))
        if node.asked.valid:
            after = _committed(decided, index, node.asked.kind, rules)
            mine = after.nodes[index]._replace(asked=node.asked)
            yield f"is granted to {node.asked.kind}", _put(after, index, mine)
        else:
            yield f"is refused to {node.asked.kind}", decided
    if node.ghost and node.ghost.valid:
        without = _put(state, index, node._replace(ghost=None))
        after = _committed(without, index, node.ghost.kind, rules)
        yield f"is granted to {node.ghost.kind}, though it waits no more", after


def _committed(state: State, index: int, kind: str, rules: Rules) -> State:
    """The record has a new version: nobody knows it, and nothing that expects another can be granted any more."""

    def stale(request: Request | None) -> Request | None:
        if request is None or (request.kind == TAKE and rules.breach == "unconditional_take"):
            return request
        return request._replace(valid=False)

    nodes = tuple(
        node._replace(
            seen=node.seen if rules.breach == "count_goes_on" else NEVER,
            current=False,
            asked=stale(node.asked),
            ghost=stale(node.ghost),
        )
        for node in state.nodes
    )
    return State(nodes, NOBODY if kind == RELEASE else index, released=kind == RELEASE)


def _hears(state: State, index: int, rules: Rules) -> Iterator[Step]:
    """The answer to its request arrives, or it gives up waiting."""
    node = state.nodes[index]
    if not node.asked:
        return
    rest = node._replace(asked=None, answer=None, age=0)
    if node.answer is None:
        for ghost in _ghosts(node):
            yield "waits no more for an answer", _put(state, index, rest._replace(ghost=ghost))
    else:
        yield "never gets the answer", _put(state, index, rest)
    if node.answer:
        right = rules.deadline if rules.breach == "deadline_from_answer" else rules.deadline - node.age
        if right > 0:
            held = rest._replace(right=right, current=node.asked.valid)
            yield f"hears that it was granted, and has {right} ticks", _put(state, index, held)
    elif node.answer is False:
        killed = rules.kill if node.vm == ON else node.vm
        yield "hears that it was refused", _put(state, index, rest._replace(right=0, current=False, vm=killed))


def _looks(state: State, index: int, rules: Rules) -> Iterator[Step]:
    """It sees the newest version of the record, for the first time: its own, perhaps, whose answer it has missed."""
    node = state.nodes[index]
    if node.seen == NEVER:
        own = state.holder == index and node.right > 0
        yield "sees the record", _put(state, index, node._replace(seen=0, current=own))


def _runs(state: State, index: int, rules: Rules) -> Iterator[Step]:
    """It starts its VM, has it killed, or the VM ends, killed or not."""
    node = state.nodes[index]
    if node.vm == OFF and node.right:
        yield "starts the VM", _put(state, index, node._replace(vm=ON))
    if node.vm == ON and node.right:
        yield "has the VM killed", _put(state, index, node._replace(vm=rules.kill))
    if node.vm != OFF:
        yield "has no VM any more", _put(state, index, node._replace(vm=OFF))


def _fails(state: State, index: int, rules: Rules) -> Iterator[Step]:
    """Its guard dies, and begins again knowing nothing. The watchdog ends the VM when the guard would have, at last."""
    node = state.nodes[index]
    vm = node.vm
    if vm == ON and rules.breach != "crash_leaves_vm":
        vm = node.right + rules.kill
    for ghost in _ghosts(node):
        yield "forgets everything", _put(state, index, Node(vm=vm, ghost=ghost))


class Verdict(NamedTuple):
    """What a search found: how many states there are, and the shortest way to two writers, empty if there is none."""

    states: int
    way: tuple[str, ...]


def writers(state: State) -> int:
    """How many VMs may write at this moment."""
    return sum(node.vm != OFF for node in state.nodes)


def search(rules: Rules, nodes: int = 2, bad: Callable[[State], bool] = lambda state: writers(state) > 1) -> Verdict:
    """Visit every state that can be reached, nearest first; ends at the first bad one.

    :param bad: what is looked for; two writers.
    """
    begin = first(nodes)
    came_from: dict[State, tuple[State, str] | None] = {begin: None}
    ahead = deque([begin])
    while ahead:
        state = ahead.popleft()
        for text, after in steps(state, rules):
            if after in came_from:
                continue
            came_from[after] = (state, text)
            if bad(after):
                return Verdict(len(came_from), _way(came_from, after))
            ahead.append(after)
    return Verdict(len(came_from), ())


def _way(came_from: dict[State, tuple[State, str] | None], state: State) -> tuple[str, ...]:
    """What happened until that state, from the beginning."""
    texts: list[str] = []
    while (before := came_from[state]) is not None:
        state, text = before
        texts.append(text)
    return tuple(reversed(texts))


def main() -> int:
    """Search with the timings given; the exit code is 1 if there is a way to two writers."""
    parser = argparse.ArgumentParser(description="Visit every state of the lease's protocol.")
    parser.add_argument("--lease", type=int, default=4, help="L in ticks (default: %(default)s)")
    parser.add_argument("--deadline", type=int, default=3, help="D in ticks (default: %(default)s)")
    parser.add_argument("--kill", type=int, default=1, help="K in ticks (default: %(default)s)")
    parser.add_argument("--nodes", type=int, default=2, help="how many nodes (default: %(default)s)")
    parser.add_argument("--breach", choices=BREACHES, default="", help="a rule that is broken")
    given = parser.parse_args()
    found = search(Rules(given.lease, given.deadline, given.kill, given.breach), given.nodes)
    for number, text in enumerate(found.way, 1):
        print(f"{number:3} {text}")
    print(f"{found.states} states, {'two writers' if found.way else 'never two writers'}")
    return 1 if found.way else 0


if __name__ == "__main__":
    sys.exit(main())
