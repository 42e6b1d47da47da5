"""Words of a Dockerfile: quotes, escapes and variables, as moby's `shell.Lex` reads them.

Source: https://docs.docker.com/reference/dockerfile/#environment-replacement.
"""

import re
from collections.abc import Mapping

from nacre.cloud.errors import Invalid

NESTING_MAX = 8
"""${a:-${b:-...}} so deep."""
EXPANDED_CHARACTERS_MAX = 1 << 20
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9@*#?$!-]")


def split(text: str, escape: str = "\\") -> list[str]:
    """The words, quotes and escapes still in them."""
    found: list[str] = []
    word, quote, index = "", "", 0
    while index < len(text):
        sign = text[index]
        if sign == escape and quote != "'" and index + 1 < len(text):
            word += text[index : index + 2]
            index += 2
            continue
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "'\"":
            quote = sign
        elif sign.isspace():
            if word:
                found.append(word)
            word, index = "", index + 1
            continue
        word += sign
        index += 1
    return [*found, word] if word else found


def expand(text: str, env: Mapping[str, str], escape: str = "\\") -> str:
    """One word without its quotes, its variables replaced. Raises Invalid."""
    return _Reader(text, env, escape).read()


def expand_text(text: str, env: Mapping[str, str], escape: str = "\\") -> str:
    """A here-document's text with its variables replaced. Quotes are only signs in it. Raises Invalid."""
    return _TextReader(text, env, escape).read()


class _Reader:
    """Reads one text once."""

    def __init__(self, text: str, env: Mapping[str, str], escape: str, depth: int = 0) -> None:
        self._text, self._env, self._escape, self._depth = text, env, escape, depth
        self._at = 0

    def read(self, end: str = "") -> str:
        """Up to the sign `end`, which is taken too; up to the end of the text without one."""
        made: list[str] = []
        size = 0
        while self._at < len(self._text):
            sign = self._text[self._at]
            if end and sign == end:
                self._at += 1
                return "".join(made)
            made.append(self._one(sign))
            size += len(made[-1])
            if size > EXPANDED_CHARACTERS_MAX:
                raise Invalid(f"a word is longer than {EXPANDED_CHARACTERS_MAX} characters")
        if end:
            raise Invalid(f"failed to process {self._text!r}: missing {end!r}")
        return "".join(made)

    def _one(self, sign: str) -> str:
        if sign == "'":
            return self._single()
        if sign == '"':
            return self._double()
        if sign == "$":
            return self._variable()
        self._at += 1
        if sign == self._escape:
            if self._at == len(self._text):
                return ""
            self._at += 1
            return self._text[self._at - 1]
        return sign

    def _single(self) -> str:
        close = self._text.find("'", self._at + 1)
        if close < 0:
            raise Invalid(
                f"failed to process {self._text!r}: unexpected end of statement while looking for matching single-quote"
            )
        found = self._text[self._at + 1 : close]
        self._at = close + 1
        return found

    def _double(self) -> str:
        self._at += 1
        made: list[str] = []
        while self._at < len(self._text):
            sign = self._text[self._at]
            if sign == '"':
                self._at += 1
                return "".join(made)
            if sign == "$":
                made.append(self._variable())
                continue
            following = self._text[self._at + 1 : self._at + 2]
            if sign == self._escape and following in ('"', "$", self._escape) and following:
                self._at += 1
                sign = following
            made.append(sign)
            self._at += 1
        raise Invalid(f"failed to process {self._text!r}: unexpected end of statement while looking for matching double-quote")

    def _variable(self) -> str:
        self._at += 1
        if self._text[self._at : self._at + 1] == "{":
            self._at += 1
            return self._braced()
        match = _NAME.match(self._text, self._at)
        if match is None:
            return "$"
        self._at = match.end()
        return self._env.get(match[0], "")

    def _braced(self) -> str:
        match = _NAME.match(self._text, self._at)
        if match is None:
            raise Invalid(f"failed to process {self._text!r}: bad substitution")
        self._at = match.end()
        name, value = match[0], self._env.get(match[0])
        sign = self._text[self._at : self._at + 1]
        if sign == "}":
            self._at += 1
            return value or ""
        colon = sign == ":"
        modifier = self._text[self._at + colon : self._at + colon + 1]
        if modifier not in ("-", "+", "?") or not modifier:
            raise Invalid(f"failed to process {self._text!r}: unsupported modifier ({modifier}) in substitution")
        self._at += 1 + colon
        if self._depth >= NESTING_MAX:
            raise Invalid(f"failed to process {self._text!r}: substitutions are nested deeper than {NESTING_MAX}")
        inner = _Reader(self._text, self._env, self._escape, self._depth + 1)
        inner._at = self._at
        word = inner.read("}")
        self._at = inner._at
        given = value is not None and (value != "" or not colon)
        if modifier == "+":
            return word if given else ""
        if given:
            return value or ""
        if modifier == "?":
            raise Invalid(f"failed to process {self._text!r}: {name}: {word or 'not allowed to be unset'}")
        return word


class _TextReader(_Reader):
    """As a shell reads a here-document (POSIX.1-2017, Shell Command Language, 2.7.4): an escape is one before `$` and before itself."""

    def _one(self, sign: str) -> str:
        if sign == "$":
            return self._variable()
        self._at += 1
        following = self._text[self._at : self._at + 1]
        if sign == self._escape and following in ("$", self._escape) and following:
            self._at += 1
            return following
        return sign
