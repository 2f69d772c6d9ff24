"""From a beacon's event through reactor and runner to a guard on another node, with two masters."""

from __future__ import annotations

from tests.support.salt_cluster import wait_until


def holder_dies(world, node="node1"):
    """`node` has the lease and the VM, and is not heard of any more."""
    world.hold(node)
    world.guards.guards[node].stop()
    world.members([name for name in ("node1", "node2", "node3") if name != node])


def test_every_module_loads(world):
    functions = world.salt.salt("m1", "sys.list_functions", target="node1")["node1"]
    assert {"guard.status", "guard.takeover", "mnvm.config", "mnvm.plan_failover", "mnvm.report"} <= set(functions)
    code, answer = world.run_json("mnha.version")
    assert code == 0
    assert set(answer["guards"].values()) == {"fake"}


def test_an_expiring_lease_is_armed_and_taken_at_its_expiry(world):
    before = world.guards.lease["epoch"]
    try:
        holder_dies(world)
        wait_until(lambda: world.guards.lease["holder"] in ("node2", "node3"), 60, "another node has the lease")
        record = wait_until(
            lambda: next((r for r in world.get("history/").values() if r.get("epoch", 0) > before + 1), None),
            60,
            "a record",
        )
    finally:
        world.guards.guards["node1"].start()
    assert record["event"] == "failover"
    assert record["cause"] == "lease_expiring"
    print(record["steps_s"], record["timeline"])
    orders = [order for guard in world.guards.guards.values() for order in guard.orders if order["op"] == "takeover"]
    assert len(orders) == 1, "two masters, two reporters, one order"


def test_a_node_that_can_not_start_it_is_followed_by_the_next(world):
    first = "node2"
    world.guards.guards[first].fails_to_start = True
    try:
        holder_dies(world)
        wait_until(lambda: world.guards.guards["node3"].vm == "running", 60, "node3 runs it")
    finally:
        world.guards.guards["node1"].start()
    assert world.guards.lease["holder"] == "node3"


def test_start_and_stop(world):
    code, answer = world.run_json("mnha.start", "cluster=example")
    assert (code, answer["result"]) == (0, True), answer
    assert world.guards.lease["holder"] == answer["node"]
    code, answer = world.run_json("mnha.stop")
    assert (code, answer["result"]) == (0, True), answer
    assert world.guards.lease["phase"] == "released"


def test_a_share_and_a_disk_are_accepted_by_the_guard_of_a_node(world):
    code, answer = world.run_json("mnha.adopt_share", "node2")
    assert (code, answer["id"]) == (0, "an-id"), answer
    assert [order["op"] for order in world.guards.guards["node2"].orders] == ["adopt_share"]
    code, answer = world.run_json("mnha.accept_disk")
    assert (code, answer["comment"]) == (0, "mnvm is started from its image again"), answer


def test_two_masters_order_different_nodes_and_one_is_refused(world):
    world.put("vms/mnvm/desired", {"run": "started"})
    epoch = world.guards.lease["epoch"]
    answers = {}
    import threading

    def order(master, node):
        answers[node] = world.salt.salt(master, "guard.takeover", target=node, epoch=epoch)[node]

    threads = [threading.Thread(target=order, args=pair) for pair in (("m1", "node2"), ("m2", "node3"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer["result"] for answer in answers.values()) == ["ok", "refused"]


def test_mistakes_are_named_with_a_remedy_and_a_failing_exit_code(world):
    done = world.salt.run("m1", "mnha.status", "cluster=nowhere")
    assert done.returncode != 0
    assert "nowhere" in done.stdout
    assert "example" in done.stdout
    done = world.salt.run("m1", "mnha.start", "vm=other")
    assert done.returncode != 0
    assert "no VM 'other'" in done.stdout
    done = world.salt.run("m1", "mnha_policy.failover", "example", "mnvm", "7", "node9")
    assert done.returncode != 0
    assert "node9" in done.stdout
    done = world.salt.run("m1", "mnha.start", "node2", "force=True")
    assert done.returncode != 0
    assert "mnha.start: 'node2' is a word too many; force=True is not known. It takes cluster=" in done.stdout
    done = world.salt.run("m1", "mnha.bootstrap", "nowhere")
    assert done.returncode != 0
    assert "Traceback" not in done.stdout + done.stderr
    assert "nowhere" in done.stdout
    (world.folder / "consul_is_down").touch()
    try:
        done = world.salt.run("m1", "mnha.start")
    finally:
        (world.folder / "consul_is_down").unlink()
    assert done.returncode != 0
    assert "Consul" in done.stdout
    world.guards.guards["node2"].stop()
    try:
        answer = world.salt.salt("m1", "guard.status", target="node2")["node2"]
    finally:
        world.guards.guards["node2"].start()
    assert "systemctl restart mnha-guard" in answer


def test_a_late_failover_order_changes_nothing(world):
    world.hold("node2")
    former = str(world.guards.lease["epoch"] - 1)
    code, answer = world.run_json("mnha_policy.failover", "example", "mnvm", former, "node3")
    assert (code, answer["done"]) == (0, False)
    assert "nothing to do" in answer["comment"]


def test_beacons_report_to_the_other_master_when_the_first_is_dead_from_the_start(world):
    """Only the first master's connection runs beacons: `beacons_before_connect` lets it do so while it is not there."""
    cluster = world.salt
    cluster.daemon("node3").kill()
    cluster.daemon("m1").kill()
    seen = []
    try:
        with cluster.events("m2") as bus:
            cluster.daemon("node3").start()
            seen.append(bus.get_event(wait=60, tag="salt/minion/node3/start"))
            world.guards.guards["node3"].stop()
            seen.append(bus.get_event(wait=60, tag="salt/beacon/node3/mnvm_health/example/guard_unreachable"))
    finally:
        world.guards.guards["node3"].start()
        cluster.daemon("m1").start()
        cluster.wait_for_minions("m1", ["node1", "node2", "node3"], 120)
    assert all(seen), seen
