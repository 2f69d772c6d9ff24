"""JSON as people copy it from a manual: what is corrected, and told; what is refused."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnha.errors import ConfigurationError
from mnha.oldsuite.tolerant import ASCII, read

PLAIN = st.text().filter(lambda text: text == text.strip() and text == text.translate(ASCII))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | PLAIN,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(PLAIN, inner, max_size=4),
    max_leaves=12,
)


@given(VALUES, st.sampled_from([None, 2]))
def test_what_is_json_is_read_as_it_is(value: Any, indent: int | None) -> None:
    assert read(json.dumps(value, indent=indent, ensure_ascii=False)) == (value, [])


@given(
    st.dictionaries(st.text("abcXYZ", min_size=1), st.lists(st.integers()) | st.text("a1.@/-", max_size=8), min_size=1)
)
def test_what_a_careless_hand_does_to_json_changes_no_value(value: dict[str, Any]) -> None:
    text = json.dumps(value, indent=1)
    assert read(text.replace("\n}", ",\n}"))[0] == value
    assert read(f"// a sample\n{text}\n/* its\n end */")[0] == value
    assert read(text.replace(",\n", "\n").replace('" "', '", "'))[0] == value
    assert read(text.replace('"', "”").replace(":", "：").replace("{", "｛"))[0] == value


@pytest.mark.parametrize(
    ("text", "value", "told"),
    [
        ('{"a": 1 // one\n}', {"a": 1}, ["line 1: the comment // one is left out"]),
        ('{"a": [1, 2,],}', {"a": [1, 2]}, ["line 1: the comma before ] is left", "line 1: the comma before } is"]),
        ('{"a": 1\n "b": 2}', {"a": 1, "b": 2}, ['line 2: the comma that is missing before "b" is put in']),
        ('["a" "b"]', ["a", "b"], ['line 1: the comma that is missing before "b" is put in']),
        ('{"a": "x",, "b": "y"}', {"a": "x", "b": "y"}, ["line 1: a comma too many is left out"]),
        ("｛“a”： “x”，\n “b”： ４｝", {"a": "x", "b": 4}, ["line 1: ｛ is read as {", "line 1: “a” is read as \"a\"",
            "line 1: ： is read as :", "line 1: “x” is read as \"x\"", "line 1: ， is read as ,", "line 2: “b” is",
            "line 2: ： is read as :", "line 2: ｝ is read as }", "line 2: ４ is read as 4"]),
        ("{'a': 'x'}", {"a": "x"}, ["line 1: 'a' is read as \"a\"", "line 1: 'x' is read as \"x\""]),
        ('{Node: ["n"]}', {"Node": ["n"]}, ["line 1: the key Node is put in quotes"]),
        ('{"a": ["ntp1 "]}', {"a": ["ntp1"]}, ["a:0: the blanks around 'ntp1' are left out"]),
        ('{"a": "１７２.20.1.1，x"}', {"a": "172.20.1.1,x"}, ["a: '１７２.20.1.1，x' is read as '172.20.1.1,x'"]),
        ('{"a": "http://x/#y"} // z', {"a": "http://x/#y"}, ["line 1: the comment // z is left out"]),
        ('{"a": "x”, "b": 1}', {"a": "x", "b": 1}, ['line 1: "x” is read as "x"']),
        ('\ufeff{"a": 1}', {"a": 1}, []),
        ('{"a": 1, "a": 1}', {"a": 1}, []),
    ],
)  # fmt: skip
def test_corrections_are_told(text: str, value: Any, told: list[str]) -> None:
    found, corrections = read(text)
    assert found == value
    said = [str(one) for one in corrections]
    assert len(said) == len(told), said
    assert [(is_so, should) for is_so, should in zip(said, told, strict=True) if not is_so.startswith(should)] == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1,\n "a": 2}', "a stands there twice, as 1 and as 2"),
        ('{"a": 1,\n "a": 2,}', "a stands there twice, as 1 and as 2"),
        ('{"a" 1}', 'line 1: after the key "a" a colon is missing'),
        ('{"a": b}', "line 1: b is no value: a text stands in quotes"),
        ('{"a": 08}', "line 1: 08 is no value"),
        ('{"a": 1\n', "line 2: } is missing at the end"),
        ('{"a": [1}', "line 1: } stands where a comma or ] has to"),
        ('{"a": "x\n}', "line 1: \"x can't be read: is a quote missing?"),
        ('{"a": }', "line 1: a value is missing before }"),
        ('{"a": 1} {"b": 2}', "line 1: { follows after the end"),
        ("", "line 1: a value is missing before the end"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_what_could_mean_two_things_is_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        read(text)
    assert words in error.value.message


@given(st.text("{}[]:,\"'“”｛，：ab1 \n/*#\\", max_size=40))
def test_nothing_else_than_a_fault_comes_of_anything(text: str) -> None:
    with contextlib.suppress(ConfigurationError):
        read(text)
