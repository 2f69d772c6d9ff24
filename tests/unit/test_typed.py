"""What is typed after a verb: checked as a whole, told at once, and a failing exit code."""

from __future__ import annotations

from typing import Any

import pytest

from mnha.errors import RefusedError
from mnha.master import typed


@typed.verb
def example(
    node: str, state: str | bool = "", *, cluster: str | None = None, limit: int = 20, wait_s: float = 4.0,
    force: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """A verb."""
    if node == "refused":
        raise RefusedError("not now")
    return {"node": node, "state": state, "cluster": cluster, "limit": limit, "wait_s": wait_s, "force": force}


def comment(*words: Any, **named: Any) -> str:
    answer = example(*words, **named)
    assert answer["data"]["retcode"] == 1
    (told,) = [value for key, value in answer["data"].items() if key != "retcode"]
    assert told["result"] is False
    return str(told["comment"])


def test_what_is_right_is_handed_on_by_its_type() -> None:
    assert example("node1", True, cluster=7, limit="5", wait_s=3, __pub_user="root") == {
        "node": "node1", "state": True, "cluster": "7", "limit": 5, "wait_s": 3.0, "force": False,
    }  # fmt: skip


def test_all_that_is_wrong_is_told_at_once_with_what_there_is() -> None:
    told = comment("node1", "on", "node3", limit="abc", last=5, force="yes")
    assert told == (
        "mnha.example: 'node3' is a word too many; last=5 is not known; limit is 'abc': give a whole number above 0;"
        " force is 'yes': give True or False. It takes NODE STATE cluster=… limit=20 wait_s=4.0 force=False;"
        " `salt-run -d mnha.example` tells more"
    )


@pytest.mark.parametrize(
    ("words", "named", "fault"),
    [
        ((), {}, "node is missing"),
        (("node1",), {"node": "node2"}, "node is given twice"),
        (("node1",), {"limit": 0}, "limit is 0: give a whole number above 0"),
        (("node1",), {"limit": 1.5}, "limit is 1.5: give a whole number above 0"),
        (("node1",), {"limit": True}, "limit is True: give a whole number above 0"),
        (("node1",), {"wait_s": "nan"}, "wait_s is 'nan': give a number above 0"),
        (("node1",), {"wait_s": None}, "wait_s is None: give a number above 0"),
        ((None,), {}, "node is None: give a name"),
        ((["a"],), {}, "node is ['a']: give a name"),
        ((True,), {}, "node is True: give a name"),
    ],
)
def test_a_fault_is_told(words: tuple[Any, ...], named: dict[str, Any], fault: str) -> None:
    assert comment(*words, **named).startswith(f"mnha.example: {fault}. It takes ")


def test_an_error_of_the_work_is_told_as_it_is() -> None:
    assert comment("refused", cluster="c") == "not now"


def test_salt_finds_no_signature_by_which_it_would_refuse() -> None:
    assert not hasattr(example, "__wrapped__")
    assert example.__doc__ == "A verb."
