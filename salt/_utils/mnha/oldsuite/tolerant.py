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

In texts and keys, also in those of what is JSON, full-width forms are read as ASCII, and blanks at both ends left out.
In a path only letters, digits and ``/._-`` are: a folder may have other full-width characters in its name.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from ..config.fields import join, show
from ..errors import ConfigurationError, Fault

ASCII = str.maketrans({chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)} | {"\u3000": " "})
"""Full-width forms, and the blank of that width."""
IN_PATHS = {code: plain for code, plain in ASCII.items() if plain.isalnum() or plain in "/._-"}
COMMENT_LENGTH = 160
MOST_CORRECTIONS = 1000
"""What needs more was never such a file."""
BREAKS = r"\n\r\v\f\x1c-\x1e\x85\u2028\u2029"
LINE_END = re.compile(rf"\r\n|[{BREAKS}]")
"""Whatever an editor or a web page may end a line with: a comment ends there, too."""
MARKS = str.maketrans("｛｝［］：，、【】", "{}[]:,,[]")
QUOTES, APOSTROPHES = '"“”„‟＂«»', "'‘’＇"
TOKEN = re.compile(
    rf"""
    (?P<blank>    [\s\u00a0\u3000\ufeff\u200b]+ )
  | (?P<comment>  //[^{BREAKS}]* | \#[^{BREAKS}]* | /\*.*?\*/ )
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
        return seen(f"{self.where}: {self.what}")


@dataclasses.dataclass(frozen=True)
class Token:
    """A mark, a text (with ASCII quotes), a word, or the `end`.

    :param touches: nothing stands between it and the one before.
    """

    kind: str
    text: str
    line: int
    touches: bool = False


def seen(text: str) -> str:
    """A text for people: what can't be seen in it by its code."""
    return "".join(one if one.isprintable() else f"<U+{ord(one):04X}>" for one in text)


def read(text: str, corrections: list[Correction] | None = None) -> tuple[Any, list[Correction]]:
    """The value, and what was corrected.

    :param corrections: gets what was corrected also where it can't be read in the end.
    :raises ConfigurationError: it can't be read, or could mean two things; names the line.
    """
    if not text.strip("\ufeff \t\r\n"):
        raise ConfigurationError("the file is empty")
    reader = _Reader([] if corrections is None else corrections)
    try:
        try:
            value = json.loads(text.removeprefix("\ufeff"), object_pairs_hook=reader.object_of)
        except ValueError:
            reader.corrections.clear()
            value = reader.read(text)
        return reader.trimmed(value, ""), reader.corrections
    except RecursionError:
        raise ConfigurationError("it is nested too deeply to be a configuration") from None


class _Reader:
    """The reading of one text, by recursive descent."""

    def __init__(self, corrections: list[Correction]) -> None:
        self.corrections = corrections
        self._before = ""
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

    def object_of(self, pairs: Sequence[tuple[str, Any]], lines: Sequence[int] = ()) -> dict[str, Any]:
        """An object, each of whose keys may have one value.

        :param lines: of the keys; of what is JSON they are not known.
        """
        found: dict[str, Any] = {}
        for (given, value), line in itertools.zip_longest(pairs, lines):
            key = given.translate(ASCII).strip()
            where = f"line {line}" if line else key
            if key != given:
                self._add(where, f"the key {given!r} is read as {key!r}")
            if key in found and (found[key] != value or type(found[key]) is not type(value)):
                problem = f"{key} stands there twice, as {show(found[key])} and as {show(value)}"
                raise ConfigurationError(faults=[Fault(where, value, problem, "keep one of them")])
            if key in found:
                self._add(where, f"{key} stands there twice, with the same value: one is left out")
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
        is_path = value.lstrip().startswith(("/", "／"))
        if (plain := value.translate(IN_PATHS if is_path else ASCII)) != value:
            self._add(path, f"{value!r} is read as {plain!r}")
        if plain.strip() != plain:
            self._add(path, f"the blanks around {plain.strip()!r} are left out")
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
            raise self._fault(token, f"{token.text} {_why_no_value(text)}") from None

    def _object(self) -> dict[str, Any]:
        pairs, lines = list[tuple[str, Any]](), list[int]()
        while self._goes_on("}"):
            key = self._take()
            if key.kind not in ("text", "word"):
                raise self._fault(key, f"a key is missing before {key.text or 'the end'}")
            if key.kind == "word" and key.text.isdigit():
                raise self._fault(key, f"{key.text} is no key: is the comma before it in the middle of a number?")
            if key.kind == "word":
                self._tell(key.line, f"the key {key.text} is put in quotes")
            if self._next.text != ":":
                raise self._fault(self._next, f"after the key {key.text} a colon is missing")
            self._take()
            name = key.text if key.kind == "word" else self._literal(key, key.text)
            pairs.append((name, self._value()))
            lines.append(key.line)
            self._pass_comma("}")
        return self.object_of(pairs, lines)

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
        elif self._next.kind == "word" and self._next.touches and self._before == "text":
            raise self._fault(self._next, f"{self._next.text} touches a text that ends before it: is a quote missing?")
        elif self._next.kind in ("text", "word") or self._next.text in ("{", "["):
            self._tell(self._next.line, f"the comma that is missing before {self._next.text} is put in")
        elif self._next.text not in (end, ""):
            raise self._fault(self._next, f"{self._next.text} stands where a comma or {end} has to")

    # ---- tokens

    def _take(self) -> Token:
        """The next token; the one after it is looked at then."""
        token, self._next = self._next, next(self._tokens)
        self._before = token.kind
        return token

    def _split(self, text: str) -> Iterator[Token]:
        """The tokens; blanks and comments are left out. The end comes again and again."""
        at, line, touches = 0, 1, False
        while at < len(text):
            found = TOKEN.match(text, at)
            if found is None:
                rest = text[at : at + 20].splitlines()[0]
                raise self._fault(
                    Token("", "", line), f"{rest} can't be read: is a quote missing, or the end of a comment?"
                )
            token = Token(found.lastgroup or "", found[0], line, touches)
            touches = token.kind not in ("blank", "comment")
            if token.kind == "comment":
                self._tell(line, f"the comment {_short(found[0])} is left out")
            elif token.kind != "blank":
                yield self._plain(token)
            line, at = line + len(LINE_END.findall(found[0])), found.end()
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
        self._add(f"line {line}", what)

    def _add(self, where: str, what: str) -> None:
        if len(self.corrections) >= MOST_CORRECTIONS:
            raise ConfigurationError(f"more than {MOST_CORRECTIONS} corrections would be needed: is it the right file?")
        self.corrections.append(Correction(where, what))

    @staticmethod
    def _fault(token: Token, problem: str) -> ConfigurationError:
        value = seen(token.text) or None
        return ConfigurationError(faults=[Fault(f"line {token.line}", value, seen(problem), "write it as JSON")])


def _why_no_value(text: str) -> str:
    """What is wrong with a word or text that JSON does not know."""
    if (word := text.lower()) in ("true", "false", "null", "none"):
        return f"is no value: write {'null' if word == 'none' else word}"
    if text.startswith('"'):
        return "can't be read: a backslash is written twice"
    if re.fullmatch(r"[+-]?[0-9][0-9.]*", text):
        return "is no number of JSON's: it has no + and no leading zero, and an end"
    return "is no value: a text stands in quotes"


def _short(comment: str) -> str:
    """A comment for people, on one line: what stands in it is not read, so as much of it as can be seen at a glance."""
    line = " ".join(comment.split())
    return line if len(line) <= COMMENT_LENGTH else f"{line[:COMMENT_LENGTH]} … ({len(line)} characters)"
