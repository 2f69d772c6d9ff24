"""A value is changed in the pillar where an operator would change it, and nothing else in the file."""

from __future__ import annotations

import copy
import difflib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mnha import config
from mnha.config.difference import differences
from mnha.errors import FailedError
from mnha.master import pillar_edit
from tests.support.configurations import pillars
from tests.support.example import ROOT

PATH = Path("/srv/pillar/example.sls")
EXAMPLE = (ROOT / "pillar/clusters/example.sls").read_text()


def edited(text: str, changes: dict[str, Any], more: dict[Path, str] | None = None) -> dict[Path, str]:
    """The files after the values at some paths were changed; None takes one away."""
    before = config.load(yaml.safe_load(text)).to_mapping()
    wanted = copy.deepcopy(before)
    for path, value in changes.items():
        *above, last = [int(key) if key.isdigit() else key for key in path.split(":")]
        place: Any = wanted
        for key in above:
            place = place[key] if isinstance(place, list) else place.setdefault(key, {})
        place[last] = value
    return pillar_edit.changed({PATH: text, **(more or {})}, list(differences(before, wanted)), wanted)


def lines(text: str, changes: dict[str, Any]) -> list[str]:
    """The lines that are new or gone."""
    (new,) = edited(text, changes).values()
    return [line for line in difflib.ndiff(text.splitlines(), new.splitlines()) if line[0] in "+-"]


def test_a_value_is_changed_and_its_comment_stays() -> None:
    assert lines(EXAMPLE, {"image_folder": "/srv/x"}) == [
        "-     image_folder: /opt/smp/mngt      # the shared folder every node sees",
        "+     image_folder: /srv/x             # the shared folder every node sees",
    ]


def test_one_that_was_left_to_its_default_is_added() -> None:
    assert lines(EXAMPLE, {"vms:mnvm:restarts:max": 5}) == ["+         restarts:", "+           max: 5"]


def test_one_in_a_list_of_networks() -> None:
    assert [line.split() for line in lines(EXAMPLE, {"vms:mnvm:networks:0:bridge": "br9"})] == [
        ["-", "-", "bridge:", "br_mgmt"], ["+", "-", "bridge:", "br9"],
    ]  # fmt: skip


def test_one_of_several_values_on_a_line() -> None:
    assert [line.split("#")[0].strip() for line in lines(EXAMPLE, {"vms:mnvm:health:tcp_port": 22})] == [
        "-         health: {agent: true, tcp_port: 8080}", "+         health: {agent: true, tcp_port: 22}",
    ]  # fmt: skip


def test_what_is_not_wanted_any_more_goes() -> None:
    assert [line.split() for line in lines(EXAMPLE, {"vms:mnvm:health:tcp_port": None})] == [
        ["-", "health:", "{agent:", "true,", "tcp_port:", "8080}"], ["+", "health:", "{agent:", "true}"],
    ]  # fmt: skip


def test_nothing_to_change_writes_nothing() -> None:
    assert edited(EXAMPLE, {}) == {}


@pytest.mark.parametrize(
    "text", ["{% set x = 1 %}\n" + EXAMPLE, EXAMPLE.replace("name: example", "name: {{ 'example' }}", 1)]
)
def test_what_a_template_makes_is_nobodys_to_change(text: str) -> None:
    before = config.load(yaml.safe_load(EXAMPLE)).to_mapping()
    wanted = {**before, "timings": "fast"}
    with pytest.raises(
        FailedError, match="by hand .*timings: 'default' → 'fast'.*example.sls, for a template makes it"
    ):
        pillar_edit.changed({PATH: text}, list(differences(before, wanted)), wanted)


def test_blanks_that_people_align_by_may_move_and_nothing_else() -> None:
    text = EXAMPLE.replace("    name: example", "    name:     example").replace("cpus: 4", "cpus:       4")
    (new,) = edited(text, {"timings": "fast"}).values()
    assert yaml.safe_load(new)["mnha"]["cluster"]["timings"] == "fast"
    assert [one.split() for one in new.splitlines()] == [
        one.split() for one in text.replace("timings: default", "timings: fast").splitlines()
    ]


def test_what_would_look_quite_different_is_nobodys_to_change() -> None:
    text = json.dumps(yaml.safe_load(EXAMPLE), indent=2)
    with pytest.raises(FailedError, match="its layout can't be kept"):
        edited(text, {"timings": "fast"})


def test_a_value_that_two_files_give_is_nobodys_to_change() -> None:
    second = {PATH.with_name("more.sls"): "mnha:\n  cluster:\n    timings: default\n"}
    with pytest.raises(FailedError, match="timings"):
        edited(EXAMPLE, {"timings": "fast"}, second)


def test_it_is_changed_in_the_file_that_has_it() -> None:
    path = PATH.with_name("more.sls")
    found = edited(EXAMPLE, {"storage_lost_after_s": 20}, {path: "mnha:\n  cluster:\n    storage_lost_after_s: 12\n"})
    assert found == {path: "mnha:\n  cluster:\n    storage_lost_after_s: 20\n"}


@settings(
    max_examples=20, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate]
)  # it shrinks for minutes
@given(pillars(), pillars(), st.sampled_from([2, 4]))
def test_whatever_is_wanted_is_what_the_file_says_then(old: dict[str, Any], new: dict[str, Any], indent: int) -> None:
    text = yaml.safe_dump(old, sort_keys=False, indent=indent, width=4096)
    before, wanted = config.load(old), config.load(new)
    found = list(differences(before.to_mapping(), wanted.to_mapping()))
    try:
        files = pillar_edit.changed({PATH: text}, found, wanted.to_mapping())
    except FailedError:
        return
    after = config.load(yaml.safe_load(files.get(PATH, text)))
    assert after == wanted


def test_files_are_replaced_and_keep_their_mode(tmp_path: Path) -> None:
    one, other = tmp_path / "one.sls", tmp_path / "other.sls"
    one.write_text("a")
    one.chmod(0o640)
    other.write_text("b")
    pillar_edit.write({one: "new", other: "more"})
    assert (one.read_text(), other.read_text(), one.stat().st_mode & 0o777) == ("new", "more", 0o640)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.sls", "other.sls"]


def test_where_one_can_not_be_written_none_is(tmp_path: Path) -> None:
    one = tmp_path / "one.sls"
    one.write_text("a")
    with pytest.raises(FailedError, match="can't be written"):
        pillar_edit.write({one: "new", tmp_path / "missing/x.sls": "y"})
    assert one.read_text() == "a"
