"""What the states create of a VM's records: all of them at installation, later only what somebody has deleted."""

from __future__ import annotations

import importlib.util
from types import ModuleType
from typing import Any

import pytest

from tests.support.example import ROOT

HELD = {"holder": "node1", "epoch": 7, "phase": "held"}
FREE = {**HELD, "holder": "", "phase": "released"}
NEVER_TAKEN = {**FREE, "phase": "held"}
STARTED = {"run": "started"}
KEYS = {key: f"vms/mnvm/{key}" for key in ("lease", "desired", "last_start")}


class Guard:
    """The execution module over records in a dictionary.

    :ivar again: whether the lease that was created is one in the place of a deleted one; None: none was created.
    """

    def __init__(self, **records: Any) -> None:
        spec = importlib.util.spec_from_file_location("guard_module", ROOT / "salt/_modules/guard.py")
        assert spec is not None
        assert spec.loader is not None
        self.module: ModuleType = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.module)
        self.records = {KEYS[name]: value for name, value in records.items()}
        self.again: bool | None = None
        vars(self.module)["__salt__"] = {
            "mnha_config.guard": lambda: {"vms": [{"name": "mnvm"}], "cluster": "example", "node": "node2"},
            "consul_ha.kv_list": lambda prefix: dict(self.records),
            "consul_ha.kv_cas": self._cas,
        }
        vars(self.module)["_create_lease"] = self._create

    def _cas(self, key: str, value: Any, index: int) -> bool:
        assert (index, key in self.records) == (0, False)
        self.records[key] = value
        return True

    def _create(self, conf: Any, vm: str, again: bool) -> bool:
        self.again = again
        return True

    def create(self, test: bool = False) -> Any:
        return self.module.create_lease(test=test)

    @property
    def desired(self) -> str:
        return str(self.records[KEYS["desired"]]["run"])


def test_an_installation_creates_a_lease_and_a_stopped_vm() -> None:
    guard = Guard()
    assert guard.create() == {"lease": True, "desired": "stopped"}
    assert (guard.again, guard.desired) == (False, "stopped")


def test_what_exists_is_not_touched() -> None:
    guard = Guard(lease=HELD, desired=STARTED)
    assert guard.create() == {"lease": False, "desired": False}
    assert (guard.again, guard.desired) == (None, "started")


@pytest.mark.parametrize(
    "left",
    [{"desired": STARTED}, {"last_start": {"epoch": 7}}, {"desired": STARTED, "last_start": {"epoch": 7}}],
    ids=["its desired state is left", "its last start is left", "both are"],
)
def test_a_lease_is_created_again_where_any_other_record_of_the_vm_is_left(left: dict[str, Any]) -> None:
    guard = Guard(**left)
    assert guard.create()["lease"] is True
    assert guard.again is True


@pytest.mark.parametrize(("lease", "run"), [(HELD, "started"), (FREE, "stopped"), (NEVER_TAKEN, "stopped")])
def test_a_desired_state_that_somebody_deleted_under_a_running_vm_is_started(lease: dict[str, Any], run: str) -> None:
    guard = Guard(lease=lease, last_start={"epoch": 7})
    assert guard.create(test=True) == {"lease": False, "desired": run}
    assert KEYS["desired"] not in guard.records
    assert guard.create() == {"lease": False, "desired": run}
    assert (guard.again, guard.desired) == (None, run)


def test_a_lease_that_can_not_be_read_is_created_again() -> None:
    guard = Guard(lease=None, desired=STARTED)
    assert guard.create() == {"lease": True, "desired": False}
    assert (guard.again, guard.desired) == (True, "started")


def test_a_desired_state_that_can_not_be_read_is_left_to_the_operator() -> None:
    guard = Guard(lease=HELD, desired=None)
    assert guard.create() == {"lease": False, "desired": False}
