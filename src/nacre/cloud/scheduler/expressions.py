"""Classic Swarm's expressions: KEY OP VALUE (docs of Docker Swarm, "Swarm filters"), as constraint, affinity and whitelist take them.

OP is == or !=; a ~ before the value makes it soft. A value between slashes is a regular expression (RE2's, searched anywhere), any other
is a glob: each * stands for anything, and what else is special in a regular expression stays so. What cannot be compiled matches nothing.
Beyond Swarm: a single = is taken for == with a warning, and true and false match in any case.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from nacre.cloud.scheduler.regex import Regex, RegexError, TooCostly

VALUE_CHARACTERS_MAX = 256
EXPRESSIONS_MAX = 32
"""Of one kind, for one request."""
SUBJECT_CHARACTERS_MAX = 4096
"""What is longer is looked at no further."""

_KEY = re.compile(r"[a-z_][a-z0-9\-_.]+", re.IGNORECASE | re.ASCII)
_VALUE = re.compile(r"[=!/]?~?[a-z0-9:\-_\t\n\f\r .*/()?+\[\]\\^$|]+", re.IGNORECASE | re.ASCII)
_PLAIN = re.compile(r"[A-Za-z0-9:_/ -]*")
_BOOLEANS = ("true", "false")


class ExpressionError(Exception):
    """It cannot be read; the message is Swarm's."""


@dataclass(frozen=True, slots=True)
class Expression:
    """KEY OP VALUE, read."""

    key: str
    operator: str
    value: str
    soft: bool = False
    warning: str = ""
    """What was taken for something else than it says."""

    def __str__(self) -> str:
        return f"{self.key}{self.operator}{self.value}"


def parse(text: str) -> Expression:
    """Raises ExpressionError."""
    operator = next((operator for operator in ("==", "!=", "=") if operator in text), None)
    if operator is None:
        raise ExpressionError("One of operator ==, != is expected")
    key, _, value = text.partition(operator)
    if not _KEY.fullmatch(key):
        raise ExpressionError(f"Key '{key}' is invalid")
    if not _VALUE.fullmatch(value) or len(value) > VALUE_CHARACTERS_MAX:
        raise ExpressionError(f"Value '{value}' is invalid")
    bare = value.lstrip("~")
    if not bare:
        raise ExpressionError(f"Value '{value}' is invalid")
    warning = f"{text}: a single = is taken as ==" if operator == "=" else ""
    return Expression(key, "==" if operator == "=" else operator, bare, value.startswith("~"), warning)


def parse_all(texts: Iterable[str]) -> tuple[Expression, ...]:
    """Raises ExpressionError, also for more than EXPRESSIONS_MAX."""
    found = tuple(parse(text) for text in texts)
    if len(found) > EXPRESSIONS_MAX:
        raise ExpressionError(f"There are more than {EXPRESSIONS_MAX} expressions of one kind")
    return found


@dataclass(slots=True)
class Matcher:
    """An expression at work on many subjects; what was found out about a text is remembered, as hosts are much alike.

    Raises ExpressionError where the search takes too long (see `regex.STEPS_MAX`).
    """

    expression: Expression
    _regex: Regex | None = None
    _exact: str | None = None
    _fold: bool = False
    _known: dict[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        value = self.expression.value
        self._fold = value.lower() in _BOOLEANS
        if _PLAIN.fullmatch(value) and not _is_regex(value):
            self._exact = value.lower() if self._fold else value
            return
        pattern = value[1:-1] if _is_regex(value) else "^" + value.replace("*", ".*") + "$"
        try:
            self._regex = Regex(pattern)
        except RegexError:
            self._regex = None

    def __call__(self, subjects: Iterable[str]) -> bool:
        """Whether the expression holds: with == any of the subjects must match, with != none may."""
        return any(map(self._matches, subjects)) == (self.expression.operator == "==")

    def _matches(self, subject: str) -> bool:
        if self._exact is not None:
            return (subject.lower() if self._fold else subject) == self._exact
        if self._regex is None:
            return False
        found = self._known.get(subject)
        if found is None:
            try:
                found = self._known[subject] = self._regex.search(subject[:SUBJECT_CHARACTERS_MAX])
            except TooCostly:
                raise ExpressionError(f"The expression {self.expression} takes too long to search for") from None
        return found


def _is_regex(value: str) -> bool:
    return len(value) > 1 and value[0] == "/" == value[-1]
