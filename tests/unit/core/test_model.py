"""The record in Consul is read exactly, or not at all."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnha.core.model import SENTENCES, Lease, LeaseRecordError, Phase, State, Vm, json_of
from mnha.core.timing import PROFILES

from .views import lease, view

LEASES = st.builds(
    Lease,
    holder=st.text(max_size=8),
    epoch=st.integers(0, 1 << 40),
    phase=st.sampled_from(Phase),
    seq=st.integers(0, 1 << 40),
    timings=st.sampled_from(list(PROFILES.values())),
    target=st.none() | st.text(max_size=8),
    reason=st.text(max_size=20),
)


@given(LEASES)
def test_a_record_is_read_as_it_was_written(record: Lease) -> None:
    assert Lease.from_json(record.to_json()) == record
    assert Lease.from_json(record.to_json().encode()) == record


def _with(**changes: object) -> str:
    """The record of a lease with some fields changed; None takes one away."""
    data = json.loads(lease().to_json())
    return json.dumps({key: value for key, value in {**data, **changes}.items() if value is not None})


@pytest.mark.parametrize(
    "text",
    [
        "", "null", "[]", "7", "{}", "not JSON", b"\xff",
        _with(v=2), _with(v=None), _with(phase="holding"), _with(holder=None), _with(holder=3), _with(epoch="7"),
        _with(seq=1.5), _with(unheard_of=1), _with(timings={"renew_s": 1.0}),
        _with(timings={"renew_s": 1.0, "deadline_s": 5.0, "kill_s": 2.0, "lease_s": 6.0}),
    ],
)  # fmt: skip
def test_a_record_that_is_not_wholly_understood_is_no_record(text: str | bytes) -> None:
    with pytest.raises(LeaseRecordError):
        Lease.from_json(text)


def test_only_a_confirmed_off_can_not_write() -> None:
    assert [vm for vm in Vm if not vm.may_write] == [Vm.OFF]


def test_every_state_has_a_sentence() -> None:
    assert set(SENTENCES) == set(State)


def test_a_view_changes_only_where_it_is_told_to() -> None:
    before = view()
    after = before.but(vm=Vm.RUNNING, now_s=1234.0)
    assert (after.vm, after.now_s) == (Vm.RUNNING, 1234.0)
    assert after.but(vm=before.vm, now_s=before.now_s) == before
    assert before.vm is Vm.OFF


def test_a_view_has_no_other_fields_than_its_own() -> None:
    with pytest.raises(TypeError, match="vmm"):
        view().but(vmm=Vm.OFF)


def test_what_is_told_to_people_is_json() -> None:
    told = json_of({"view": view(), "list": (math.inf, 1.5, Phase.HELD)})
    assert json.loads(json.dumps(told))["list"] == [None, 1.5, "held"]
