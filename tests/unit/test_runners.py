"""Which functions each runner offers: `salt-run -d mnha` shows what a person types, and nothing else."""

from __future__ import annotations

import ast

from tests.support.example import ROOT

TYPED = {
    "accept_disk",
    "adopt_share",
    "bootstrap",
    "ceph_key",
    "check_config",
    "config_accept",
    "config_diff",
    "config_history",
    "config_rollback",
    "config_sample",
    "console",
    "export_config",
    "history",
    "import_config",
    "install",
    "maintenance",
    "migrate",
    "migrate_abort",
    "reset_password",
    "start",
    "status",
    "status_conf",
    "stop",
    "uninstall",
    "version",
}
ASKING = {
    "check_config",
    "config_diff",
    "config_history",
    "config_sample",
    "console",
    "export_config",
    "history",
    "status",
    "status_conf",
    "version",
}
"""Those that change nothing of a cluster; all others are told to the history, and can be rehearsed."""
BY_EVENTS = {"claim", "consul_roles", "failover", "prepare"}


def offered(runner: str) -> set[str]:
    tree = ast.parse((ROOT / f"salt/_runners/{runner}.py").read_text(encoding="utf-8"))
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    return {name for name in functions if not name.startswith("_")}


def verbs() -> dict[str, ast.FunctionDef]:
    tree = ast.parse((ROOT / "salt/_runners/mnha.py").read_text(encoding="utf-8"))
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return {node.name: node for node in found if not node.name.startswith("_")}


def test_every_verb_fails_with_an_exit_code_and_what_changes_something_is_told_to_the_history() -> None:
    """Both are done by how a verb is decorated (:mod:`mnha.master.typed`)."""
    told = {name: [ast.unparse(one) for one in verb.decorator_list] for name, verb in verbs().items()}
    assert told == {name: ["typed.verb"] if name in ASKING else ["_change"] for name in TYPED}


def test_every_verb_that_changes_something_can_be_rehearsed() -> None:
    arguments = {name: {one.arg for one in verb.args.kwonlyargs} for name, verb in verbs().items()}
    assert {name for name, names in arguments.items() if "test" in names} == TYPED - ASKING


def test_an_operator_sees_the_verbs_and_nothing_that_only_events_run() -> None:
    assert offered("mnha") == TYPED
    assert offered("mnha_policy") == BY_EVENTS


def test_the_page_of_the_verbs_has_all_of_them() -> None:
    page = (ROOT / "docs/verbs.md").read_text(encoding="utf-8")
    assert {verb for verb in TYPED if f"`{verb}" not in page} == set()


def test_reactor_and_orchestrations_run_only_what_the_runners_offer() -> None:
    known = {f"{runner}.{name}" for runner in ("mnha", "mnha_policy") for name in offered(runner)}
    called = set()
    for path in [*(ROOT / "salt/reactor").glob("*.sls"), *(ROOT / "salt/orch").glob("*.sls")]:
        for line in path.read_text(encoding="utf-8").splitlines():
            word = line.strip().removeprefix("- name:").removeprefix("runner.").strip().partition(":")[0]
            if word.startswith("mnha"):
                called.add(word)
    assert {f"mnha_policy.{name}" for name in BY_EVENTS - {"claim"}} <= called
    assert called <= known
