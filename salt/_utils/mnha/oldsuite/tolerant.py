"""JSON as people write it down from a manual, read without guessing. Pure.

What is JSON is read by Python's own reader. Else it is corrected by the rules below, and each correction is told with
its line; what could mean two things is refused.

=====================  ===============================================================================================
a comment              ``// …``, ``# …`` to the line's end, ``/* … */``: left out
a comma too many       before ``}`` or ``]``, after another one, at the begin: left out
a comma too few        between two values, or a value and the next key: put in
other punctuation      full-width ``｛｝［］：，``, ``、`` and ``【】``: as the ASCII one
other quotes           typographic, full-width or single ones around a text: as ``"``; they may differ
a key without quotes   before a colon: quoted
=====================  ===============================================================================================

In texts, also in those of what is JSON, full-width forms are read as ASCII, and blanks at both ends left out.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from typing import Any

from ..config.fields import join
from ..errors import ConfigurationError, Fault

ASCII = str.maketrans({chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)} | {"\u3000": " "})
"""Full-width forms, and the blank of that width."""
MARKS = str.maketrans("｛｝［］：，、【】", "{}[]:,,[]")
QUOTES, APOSTROPHES = '"“”„‟＂«»', "'‘’＇"
TOKEN = re.compile(
    rf"""
    (?P<blank>    [\s\u00a0\u3000\ufeff\u200b]+ )
  | (?P<comment>  //[^\n]* | \#[^\n]* | /\*.*?\*/ )
  | (?P<text>     [{QUOTES}](?:[^{QUOTES}\\\n]|\\.)*[{QUOTES}] | [{APOSTROPHES}][^{APOSTROPHES}\\\n]*[{APOSTROPHES}] )
  | (?P<mark>     [{{}}\[\]:,｛｝［］：，、【】] )
  | (?P<word>     [^\s\u00a0\u3000\ufeff\u200b{{}}\[\]:,｛｝［］：，、【】{QUOTES}{APOSTROPHES}\#/]+ )
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclasses.dataclass(frozen=True)
class Correction:
    """What was corrected, and where: `line 3`, or the path of a text."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclasses.dataclass(frozen=True)
class Token:
    """A mark, a text (with ASCII quotes), a word, or the `end`."""

    kind: str
    text: str
    line: int


def read(text: str) -> tuple[Any, list[Correction]]:
    """The value, and what was corrected.

    :raises ConfigurationError: it can't be read, or could mean two things; names the line.
    """
    reader = _Reader()
    try:
        try:
            value = json.loads(text.removeprefix("\ufeff"), object_pairs_hook=lambda pairs: reader.object_of(pairs, ""))
        except json.JSONDecodeError:
            value = reader.read(text)
    except RecursionError:
        raise ConfigurationError("it is nested too deeply to be a configuration") from None
    value = reader.trimmed(value, "")
    return value, reader.corrections


class _Reader:
    """The reading of one text, by recursive descent."""

    def __init__(self) -> None:
        self.corrections: list[Correction] = []
        self._tokens: Iterator[Token] = iter(())
        self._next = Token("end", "", 1)

    def read(self, text: str) -> Any:
        """The value of a text that is no JSON."""
        self._tokens = self._split(text)
        self._take()
        value = self._value()
        while self._next.text == ",":
            self._tell(self._take().line, "the comma at the end is left out")
        if self._next.kind != "end":
            raise self._fault(self._next, f"{self._next.text} follows after the end")
        return value

    def object_of(self, pairs: list[tuple[str, Any]], where: str) -> dict[str, Any]:
        """An object, each of whose keys may have one value."""
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found and found[key] != value:
                problem = f"{key} stands there twice, as {found[key]!r} and as {value!r}"
                raise ConfigurationError(faults=[Fault(where or key, value, problem, "keep one of them")])
            found[key] = value
        return found

    def trimmed(self, value: Any, path: str) -> Any:
        """The value with each text as it was meant."""
        if isinstance(value, dict):
            return {key: self.trimmed(one, join(path, key)) for key, one in value.items()}
        if isinstance(value, list):
            return [self.trimmed(one, join(path, number)) for number, one in enumerate(value)]
        if not isinstance(value, str):
            return value
        if (plain := value.translate(ASCII)) != value:
            self.corrections.append(Correction(path, f"{value!r} is read as {plain!r}"))
        if plain.strip() != plain:
            self.corrections.append(Correction(path, f"the blanks around {plain.strip()!r} are left out"))
        return plain.strip()

    # ---- values

    def _value(self) -> Any:
        token = self._take()
        if token.text == "{":
            return self._object()
        if token.text == "[":
            return self._array()
        if token.kind == "text":
            return self._literal(token, token.text)
        if token.kind != "word":
            raise self._fault(token, f"a value is missing before {token.text or 'the end'}")
        if (plain := token.text.translate(ASCII)) != token.text:
            self._tell(token.line, f"{token.text} is read as {plain}")
        return self._literal(token, plain)

    def _literal(self, token: Token, text: str) -> Any:
        """A text, a number, or a word that JSON knows."""
        try:
            return json.loads(text, strict=False)
        except ValueError:
            raise self._fault(token, f"{token.text} is no value: a text stands in quotes") from None

    def _object(self) -> dict[str, Any]:
        pairs, line = list[tuple[str, Any]](), self._next.line
        while self._goes_on("}"):
            key = self._take()
            if key.kind not in ("text", "word"):
                raise self._fault(key, f"a key is missing before {key.text or 'the end'}")
            if key.kind == "word":
                self._tell(key.line, f"the key {key.text} is put in quotes")
            if self._next.text != ":":
                raise self._fault(self._next, f"after the key {key.text} a colon is missing")
            self._take()
            name = key.text if key.kind == "word" else self._literal(key, key.text)
            pairs.append((name.translate(ASCII).strip(), self._value()))
            self._pass_comma("}")
        return self.object_of(pairs, f"line {line}")

    def _array(self) -> list[Any]:
        found = []
        while self._goes_on("]"):
            found.append(self._value())
            self._pass_comma("]")
        return found

    def _goes_on(self, end: str) -> bool:
        """Whether another one follows; the end is taken."""
        while self._next.text == ",":
            self._tell(self._take().line, "a comma too many is left out")
        if self._next.kind == "end":
            raise self._fault(self._next, f"{end} is missing at the end")
        if self._next.text != end:
            return True
        self._take()
        return False

    def _pass_comma(self, end: str) -> None:
        """Take the comma after a value; say if one is missing, or stands before the end."""
        if self._next.text == ",":
            comma = self._take()
            if self._next.text == end:
                self._tell(comma.line, f"the comma before {end} is left out")
        elif self._next.kind in ("text", "word") or self._next.text in ("{", "["):
            self._tell(self._next.line, f"the comma that is missing before {self._next.text} is put in")
        elif self._next.text not in (end, ""):
            raise self._fault(self._next, f"{self._next.text} stands where a comma or {end} has to")

    # ---- tokens

    def _take(self) -> Token:
        """The next token; the one after it is looked at then."""
        token, self._next = self._next, next(self._tokens)
        return token

    def _split(self, text: str) -> Iterator[Token]:
        """The tokens; blanks and comments are left out. The end comes again and again."""
        at, line = 0, 1
        while at < len(text):
            found = TOKEN.match(text, at)
            if found is None:
                raise self._fault(
                    Token("", "", line), f"{text[at:].splitlines()[0][:20]} can't be read: is a quote missing?"
                )
            token = Token(found.lastgroup or "", found[0], line)
            if token.kind == "comment":
                self._tell(line, f"the comment {found[0].splitlines()[0][:40]} is left out")
            elif token.kind != "blank":
                yield self._plain(token)
            line, at = line + found[0].count("\n"), found.end()
        while True:
            yield Token("end", "", line)

    def _plain(self, token: Token) -> Token:
        """A token in ASCII, but for what stands in a text."""
        text = token.text
        if token.kind == "mark":
            text = text.translate(MARKS)
        elif token.kind == "text":
            inside = text[1:-1].replace('"', '\\"') if text[0] in APOSTROPHES else text[1:-1]
            text = f'"{inside}"'
        if text != token.text:
            self._tell(token.line, f"{token.text} is read as {text}")
        return dataclasses.replace(token, text=text)

    def _tell(self, line: int, what: str) -> None:
        self.corrections.append(Correction(f"line {line}", what))

    @staticmethod
    def _fault(token: Token, problem: str) -> ConfigurationError:
        return ConfigurationError(faults=[Fault(f"line {token.line}", token.text or None, problem, "write it as JSON")])
