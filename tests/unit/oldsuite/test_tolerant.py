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
        ('{"a": 1, "a": 1}', {"a": 1}, ["a: a stands there twice, with the same value: one is left out"]),
        ('{"ＣＰＵ": 1}', {"CPU": 1}, ["CPU: the key 'ＣＰＵ' is read as 'CPU'"]),
        ('{"CPU ": 1,}', {"CPU": 1}, ["line 1: the comma before }", "line 1: the key 'CPU ' is read as 'CPU'"]),
        ('{"a": "/opt/镜像（新）"}', {"a": "/opt/镜像（新）"}, []),
        ('{"a": "／opt／ｘ"}', {"a": "/opt/x"}, ["a: '／opt／ｘ' is read as '/opt/x'"]),
        ('{/* "a": 2,\n"a": 4, */ "a": 8}', {"a": 8}, ['line 1: the comment /* "a": 2, "a": 4, */ is left out']),
        (f'{{"a": 1}} //{"x" * 300}', {"a": 1}, [f"line 1: the comment //{'x' * 158} … (302 characters) is left"]),
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
        ('{"a": 1,\n "a": 2,}', "line 2: a stands there twice, as 1 and as 2"),
        ('{"a": 4,096}', "line 1: 096 is no key: is the comma before it in the middle of a number?"),
        ('{"a" 1}', 'line 1: after the key "a" a colon is missing'),
        ('{"a": b}', "line 1: b is no value: a text stands in quotes"),
        ('{"a": 08}', "line 1: 08 is no number of JSON's"),
        ('{"a": True}', "line 1: True is no value: write true"),
        ('{"a": None}', "line 1: None is no value: write null"),
        ('{"a": "\\opt",}', "can't be read: a backslash is written twice"),
        (f'{{"a": {"1" * 5000}}}', "line 1: 1111"),
        ('{"a": "/x,"DNS:["b"]}', "line 1: DNS touches a text that ends before it: is a quote missing?"),
        ('{"a\u200c" 1}', 'line 1: after the key "a<U+200C>" a colon is missing'),
        ('{"a": 1, "a": true}', "a stands there twice, as 1 and as True"),
        (f"[{',' * 2000}]", "more than 1000 corrections would be needed"),
        ("[" * 900 + "]" * 900, "nested too deeply"),
        ('{"a": 1\n', "line 2: } is missing at the end"),
        ('{"a": [1}', "line 1: } stands where a comma or ] has to"),
        ('{"a": "x\n}', "line 1: \"x can't be read: is a quote missing"),
        ('{"a": }', "line 1: a value is missing before }"),
        ('{"a": 1} {"b": 2}', "line 1: { follows after the end"),
        ("", "the file is empty"),
        ("// nothing", "line 1: a value is missing before the end"),
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


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\v", "\f", "\x85", "\u2028", "\u2029"], ids=ascii)
def test_a_comment_ends_with_its_line_however_that_ends(end: str) -> None:
    value, corrections = read(f'{{ // name servers{end} "a": 1, # one{end} "b": 2,{end} c: 3 }}')
    assert value == {"a": 1, "b": 2, "c": 3}
    assert [str(one) for one in corrections] == [
        "line 1: the comment // name servers is left out",
        "line 2: the comment # one is left out",
        "line 4: the key c is put in quotes",
    ]


def test_what_was_corrected_is_told_also_where_the_rest_can_not_be_read() -> None:
    corrections: list[Any] = []
    with pytest.raises(ConfigurationError):
        read('{"a": 1, // one\n "b" 2}', corrections)
    assert [str(one) for one in corrections] == ["line 1: the comment // one is left out"]
