"""Which file a VM writes to by libvirt's XML, what is recorded of it, and when a start is refused."""

from __future__ import annotations

from typing import Any

import pytest

from mnha.errors import FailedError
from mnha.guest.disk import Disk, accepted, objection, recorded, running

BASE, SNAP, MORE, OTHER = "/share/vm.img", "/share/vm.snap", "/share/vm.more", "/share/other.img"


def layers(*names: str, end: bool = True) -> str:
    """The layers of a disk, as libvirt 9.0 nests them."""
    text = "<backingStore/>" if end else ""
    for number, name in reversed(list(enumerate(names))):
        own = f"<format type='qcow2'/><source file='{name}' index='{number}'/>{text}"
        text = own if number == 0 else f"<backingStore type='file' index='{number}'>{own}</backingStore>"
    return text


def domain(disk: str, attributes: str = "id='7'") -> str:
    return (
        f"<domain type='kvm' {attributes}><devices><disk type='file' device='cdrom'><target dev='sda'/></disk>"
        f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>{disk}<target dev='vda'/></disk>"
        "</devices></domain>"
    )


@pytest.mark.parametrize(
    ("xml", "found"),
    [
        (domain(layers(BASE)), Disk("vda", (BASE,), True)),
        (domain(layers(SNAP, BASE)), Disk("vda", (SNAP, BASE), True)),
        (domain(layers(MORE, SNAP, BASE)), Disk("vda", (MORE, SNAP, BASE), True)),
        (domain(layers(SNAP, end=False)), Disk("vda", (SNAP,), False)),
        (domain("<source dev='/dev/vg/vm'/><backingStore/>"), Disk("vda", ("/dev/vg/vm",), True)),
        # While it is merged, the VM still writes to the overlay.
        (domain(layers(SNAP, BASE) + f"<mirror type='file' file='{BASE}' job='active-commit' ready='yes'/>"),
         Disk("vda", (SNAP, BASE), True)),
        (domain(layers(BASE), attributes=""), None),
    ],
)  # fmt: skip
def test_the_file_that_is_written_to_stands_first(xml: str, found: Disk | None) -> None:
    assert running(xml) == found


@pytest.mark.parametrize(
    "xml",
    [
        "",
        "<domain",
        "<html/>",
        "<domain id='1'/>",
        domain(""),
        domain("<source file=''/>"),
        "<domain id='1'><devices/></domain>",
    ],
)
def test_what_can_not_be_understood_is_an_error_and_nothing_is_recorded_of_it(xml: str) -> None:
    with pytest.raises(FailedError):
        running(xml)


def follow(*steps: tuple[str, ...], image: str = BASE, before: dict[str, Any] | None = None) -> dict[str, Any]:
    """The record after a VM has run on these chains, one after the other."""
    for chain in steps:
        before = recorded(before, Disk("vda", chain, True), image)
        assert recorded(before, Disk("vda", chain, True), image) == before, "it stays as it is"
    assert before is not None
    return before


def test_a_snapshot_is_refused_with_the_file_and_the_commands() -> None:
    why = objection(follow((BASE,), (SNAP, BASE)), "mnvm", BASE)
    assert SNAP in why
    assert "`virsh blockcommit mnvm vda --active --pivot`" in why
    assert f"`qemu-img commit -b {BASE} {SNAP}`" in why
    assert "`salt-run mnha.accept_disk`" in why


@pytest.mark.parametrize(
    ("steps", "image", "refused"),
    [
        ([(BASE,)], BASE, False),
        ([(SNAP, BASE)], BASE, True),  # it was active before anything was recorded
        ([(BASE,), (SNAP, BASE), (BASE,)], BASE, False),  # committed
        ([(BASE,), (SNAP, BASE), (MORE, SNAP, BASE)], BASE, True),
        ([(BASE,), (SNAP, BASE), (MORE, SNAP, BASE), (SNAP, BASE)], BASE, True),  # one of two
        ([(SNAP, BASE)], SNAP, False),  # the pillar names it by now
        ([(BASE, "/share/template.img")], BASE, False),  # an image may have one below it
        ([(BASE,), (OTHER,)], BASE, True),  # copied away for good
        ([(BASE,), (OTHER,)], OTHER, False),
    ],
)
def test_a_start_from_elsewhere_is_refused_until_it_is_merged(
    steps: list[tuple[str, ...]], image: str, refused: bool
) -> None:
    assert bool(objection(follow(*steps), "mnvm", image)) is refused


def test_another_image_in_the_pillar_counts_from_the_next_start_on() -> None:
    """It was applied while the VM runs from the old one."""
    record = follow((BASE,))
    record = follow((BASE,), image=OTHER, before=record)
    assert objection(record, "mnvm", OTHER) == ""
    assert objection(follow((BASE,), image=OTHER), "mnvm", OTHER) == "", "nothing was recorded before"
    assert objection(follow((SNAP, BASE), image=OTHER, before=record), "mnvm", OTHER) != ""
    assert objection(follow((OTHER,), image=OTHER, before=record), "mnvm", OTHER) == ""


def test_a_chain_of_which_libvirt_tells_the_top_alone_counts_as_an_overlay() -> None:
    record = recorded(None, Disk("vda", (SNAP,), False), BASE)
    assert SNAP in objection(record, "mnvm", BASE)


def test_what_was_accepted_may_be_started() -> None:
    assert objection(accepted(BASE), "mnvm", BASE) == ""
    assert objection(None, "mnvm", BASE) == ""


@pytest.mark.parametrize(
    "record", [{}, {"chain": []}, {"chain": "x", "started": BASE}, {"chain": [BASE], "started": 7}]
)
def test_a_record_that_can_not_be_understood_lets_nothing_start(record: dict[str, Any]) -> None:
    assert "mnha.accept_disk" in objection(record, "mnvm", BASE)


def test_what_was_moved_under_the_vm_lets_nothing_start_until_it_is_back_or_accepted() -> None:
    disk = Disk("vda", (BASE,), True)
    record = recorded(follow((BASE,)), disk, BASE, True)
    why = objection(record, "mnvm", BASE)
    assert f"{BASE}, which it wrote to, was moved, removed, or replaced" in why
    assert "`virsh blockcopy mnvm vda NEW --wait --pivot`" in why
    assert recorded(record, disk, BASE, True) == recorded(record, disk, BASE) == record, "also while it is not known"
    assert objection(recorded(record, disk, BASE, False), "mnvm", BASE) == ""
    other = recorded(record, Disk("vda", (OTHER,), True), BASE)
    assert "moved" not in other, "of another file nothing is known"
    assert objection(accepted(BASE), "mnvm", BASE) == ""
