"""What is told of a run of states: what failed, and what was changed."""

from __future__ import annotations

from typing import Any

import pytest

from mnha.master import applying
from mnha.master.minions import Reply
from tests.unit.test_configuration import BAD, GOOD


@pytest.mark.parametrize(
    ("value", "lines"),
    [
        (GOOD, []),
        (BAD, ["guard_running: it does not start"]),
        (["Rendering SLS failed"], ["Rendering SLS failed"]),
        ("The function is running as PID 7", ["The function is running as PID 7"]),
        ([], ["nothing was done"]),
    ],
)
def test_what_failed_in_a_run_of_states(value: Any, lines: list[str]) -> None:
    assert applying.failures(Reply("node1", value, isinstance(value, dict))) == lines


def test_what_was_changed_is_told_in_its_order_and_by_its_kind() -> None:
    """A dry run has no changes of a service, but no result either."""
    value = {
        "file_|-b_|-/etc/x_|-absent": {
            "name": "/etc/x",
            "changes": {"removed": "/etc/x"},
            "result": True,
            "__run_num__": 2,
        },
        "service_|-a_|-mnha-guard_|-dead": {"name": "mnha-guard", "changes": {}, "result": None, "__run_num__": 0},
        "mnvm_|-d_|-the VMs_|-undefined": {
            "name": "the VMs",
            "changes": {"mnvm": {}},
            "result": True,
            "__run_num__": 1,
        },
        "file_|-c_|-/etc/y_|-absent": {"name": "/etc/y", "changes": {}, "result": True, "__run_num__": 3},
        "cmd_|-r_|-systemctl_|-run": {"name": "systemctl", "changes": {"pid": 1}, "result": True, "__run_num__": 4},
    }
    assert applying.changes(Reply("n", value, True)) == ["service mnha-guard", "domain mnvm", "file /etc/x"]
    assert applying.changes(Reply("n", ["no SLS"], True)) == []


def test_a_node_that_has_not_answered_has_failed() -> None:
    assert applying.faults(["a", "b"], {"a": Reply("a", GOOD, True)}) == {"b": [applying.SILENT]}
