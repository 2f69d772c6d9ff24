"""The table of the guard's checks, and whom each concerns."""

from __future__ import annotations

import re

from mnha.core.choose import OF_A_VM
from mnha.daemon.adapters.probe import Check
from mnha.daemon.checks import CHECKS, Of, of_node, told, unable
from tests.support.example import ROOT

ALL_WELL = {name: Check(True) for name in CHECKS}


def test_each_check_is_told_of_the_node_or_of_the_vm_and_of_several_vms_the_first_failing_one_counts() -> None:
    hangs = {**ALL_WELL, "storage": Check(False, "hangs"), "image": Check(False, "missing")}
    node = of_node([ALL_WELL, hangs])
    assert node["storage"] == {"ok": False, "why": "hangs"}
    assert "image" not in node
    assert told(hangs, Of.VM)["image"] == {"ok": False, "why": "missing"}
    assert {*node, *told(hangs, Of.VM), *told(hangs, Of.SALT)} == set(CHECKS)


def test_what_fails_for_salt_alone_is_told_and_no_reason_not_to_run_a_vm() -> None:
    full = {**ALL_WELL, "salt": Check(False, "/var/cache/salt is full")}
    assert unable(full) == ""
    assert of_node([full], Of.SALT) == {"salt": {"ok": False, "why": "/var/cache/salt is full"}}
    assert "salt" not in of_node([full])
    assert unable({**full, "image": Check(False, "missing")}) == "missing"


def test_the_documentation_names_every_check_with_whom_it_concerns() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.strip().startswith('"checks":{')]
    found = [set(re.findall(r'"(\w+)":[{…]', line.split("#")[0])) - {"checks"} for line in lines]
    assert found == [{name for name, kind in CHECKS.items() if kind.of is of} for of in (Of.NODE, Of.VM)]


def test_the_choice_knows_which_checks_of_an_older_guard_concern_a_vm() -> None:
    assert {name for name, kind in CHECKS.items() if kind.of is Of.VM} == OF_A_VM
