"""Regular expressions as RE2 has them (https://github.com/google/re2/wiki/Syntax, Go's `regexp`), in time linear to the text.

Python's own `re` backtracks: an expression of a tenant such as (a+)+$ would hold up the whole scheduler. Here an expression becomes an
NFA that is walked in all its states at once, and the sets of states that were met are remembered (a DFA that is made as it is needed).
Three bounds hold whatever is asked: NESTING_MAX, STATES_MAX for the memory, and STEPS_MAX for the time of all searches of one expression.

Not there, as Swarm's grammar has no braces and no commas in its values: counted repetition {n,m} and names of character classes in braces.
"""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

NESTING_MAX = 100
"""Groups in groups."""
STATES_MAX = 256
"""Sets of states that are remembered at once; then the walk begins to remember anew."""
STEPS_MAX = 500_000
"""Instructions that all searches with one expression may visit: about 0.2 s."""

Test = Callable[[str], bool]
_END = ""


class RegexError(Exception):
    """It is no expression of RE2's."""


class TooCostly(RegexError):
    """Searching for it takes more steps than STEPS_MAX."""


@dataclass(slots=True)
class _Step:
    """One instruction: `consume` takes a character; `holds` is an assertion on (the one before, the one after); else it forks."""

    to: list[int]
    consume: Test | None = None
    holds: Callable[[str, str], bool] | None = None


@dataclass(slots=True)
class _Flags:
    fold: bool = False
    multi_line: bool = False
    dot_all: bool = False


def _is_word(char: str) -> bool:
    return char.isascii() and (char.isalnum() or char == "_")


_SPACE = frozenset("\t\n\f\r ")
_CLASSES: dict[str, Test] = {
    "d": lambda char: "0" <= char <= "9",
    "w": _is_word,
    "s": _SPACE.__contains__,
}
_POSIX: dict[str, Test] = {
    "alnum": lambda char: char.isascii() and char.isalnum(),
    "alpha": lambda char: char.isascii() and char.isalpha(),
    "ascii": str.isascii,
    "blank": "\t ".__contains__,
    "cntrl": lambda char: char < " " or char == "\x7f",
    "digit": _CLASSES["d"],
    "graph": lambda char: "!" <= char <= "~",
    "lower": lambda char: "a" <= char <= "z",
    "print": lambda char: " " <= char <= "~",
    "punct": lambda char: "!" <= char <= "~" and not char.isalnum(),
    "space": "\t\n\v\f\r ".__contains__,
    "upper": lambda char: "A" <= char <= "Z",
    "word": _is_word,
    "xdigit": lambda char: char in "0123456789abcdefABCDEF",
}
_CONTROLS = {"a": "\a", "f": "\f", "t": "\t", "n": "\n", "r": "\r", "v": "\v"}
_ASSERTIONS: dict[str, Callable[[str, str], bool]] = {
    "A": lambda before, after: before == _END,
    "z": lambda before, after: after == _END,
    "b": lambda before, after: _is_word(before) != _is_word(after),
    "B": lambda before, after: _is_word(before) == _is_word(after),
}


def _begins_line(before: str, after: str) -> bool:
    return before in (_END, "\n")


def _ends_line(before: str, after: str) -> bool:
    return after in (_END, "\n")


def _not(test: Test) -> Test:
    return lambda char: not test(char)


def _either(tests: list[Test]) -> Test:
    return lambda char: any(test(char) for test in tests)


def _range(low: str, high: str) -> Test:
    return lambda char: low <= char <= high


def _folded(test: Test) -> Test:
    return lambda char: test(char) or test(char.lower()) or test(char.upper())


class _Compiler:
    """Recursive descent. Each part is compiled with the end left open: (first instruction, the lists that want the next one's number)."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0
        self._flags = _Flags()
        self._depth = 0
        self.steps: list[_Step] = []

    def compile(self) -> int:
        """The number of the first instruction; one without a way on is the match."""
        first, ends = self._alternatives()
        if self._at < len(self._pattern):
            raise RegexError("unexpected )")
        self._close(ends, self._add(_Step([])))
        return first

    def _add(self, step: _Step) -> int:
        self.steps.append(step)
        return len(self.steps) - 1

    def _close(self, ends: list[list[int]], target: int) -> None:
        for end in ends:
            end.append(target)

    def _peek(self) -> str:
        return self._pattern[self._at] if self._at < len(self._pattern) else _END

    def _take(self) -> str:
        char = self._peek()
        if char == _END:
            raise RegexError("unexpected end")
        self._at += 1
        return char

    def _skip(self, text: str) -> bool:
        if self._pattern.startswith(text, self._at):
            self._at += len(text)
            return True
        return False

    def _nothing(self) -> tuple[int, list[list[int]]]:
        step = _Step([])
        return self._add(step), [step.to]

    def _alternatives(self) -> tuple[int, list[list[int]]]:
        before = self._flags
        firsts, ends = [], []
        while True:
            first, open_ends = self._sequence()
            firsts.append(first)
            ends += open_ends
            if not self._skip("|"):
                break
        self._flags = before
        return (firsts[0] if len(firsts) == 1 else self._add(_Step(firsts))), ends

    def _sequence(self) -> tuple[int, list[list[int]]]:
        first, ends = self._nothing()
        while self._peek() not in (_END, "|", ")"):
            if self._skip("\\Q"):
                quoted, _, _ = self._pattern[self._at :].partition("\\E")
                self._at = min(len(self._pattern), self._at + len(quoted) + 2)
                for char in quoted:
                    ends = self._append(ends, self._consuming(_range(char, char)))
                continue
            part = self._repeated()
            if part is not None:
                ends = self._append(ends, part)
        return first, ends

    def _append(self, ends: list[list[int]], part: tuple[int, list[list[int]]]) -> list[list[int]]:
        self._close(ends, part[0])
        return part[1]

    def _repeated(self) -> tuple[int, list[list[int]]] | None:
        part = self._atom()
        operator = self._peek()
        if operator not in ("*", "+", "?") or operator == _END:
            return part
        self._at += 1
        self._skip("?")
        if self._peek() in ("*", "+", "?") and self._peek() != _END:
            raise RegexError("invalid nested repetition operator")
        if part is None:
            raise RegexError("missing argument to repetition operator")
        first, ends = part
        fork = _Step([first])
        number = self._add(fork)
        if operator == "?":
            return number, [*ends, fork.to]
        self._close(ends, number)
        return (number if operator == "*" else first), [fork.to]

    def _atom(self) -> tuple[int, list[list[int]]] | None:
        """One thing that may be repeated; None where flags were set."""
        char = self._take()
        match char:
            case "(":
                return self._group()
            case "[":
                return self._consuming(self._folding(self._bracket()))
            case ".":
                return self._consuming((lambda char: True) if self._flags.dot_all else (lambda char: char != "\n"))
            case "^":
                return self._asserting(_begins_line if self._flags.multi_line else _ASSERTIONS["A"])
            case "$":
                return self._asserting(_ends_line if self._flags.multi_line else _ASSERTIONS["z"])
            case "\\":
                if self._peek() in _ASSERTIONS and self._peek() != _END:
                    return self._asserting(_ASSERTIONS[self._take()])
                return self._consuming(self._folding(self._escape()))
            case "*" | "+" | "?":
                raise RegexError("missing argument to repetition operator")
            case _:
                return self._consuming(self._folding(_range(char, char)))

    def _folding(self, test: Test) -> Test:
        return _folded(test) if self._flags.fold else test

    def _consuming(self, test: Test) -> tuple[int, list[list[int]]]:
        step = _Step([], consume=test)
        return self._add(step), [step.to]

    def _asserting(self, holds: Callable[[str, str], bool]) -> tuple[int, list[list[int]]]:
        step = _Step([], holds=holds)
        return self._add(step), [step.to]

    def _group(self) -> tuple[int, list[list[int]]] | None:
        before = self._flags
        if self._skip("?"):
            flags = self._read_flags()
            self._flags = flags
            if self._skip(")"):
                return None
            if not self._skip(":"):
                raise RegexError("invalid group")
        self._depth += 1
        if self._depth > NESTING_MAX:
            raise RegexError("nested too deeply")
        part = self._alternatives()
        self._depth -= 1
        self._flags = before
        if not self._skip(")"):
            raise RegexError("missing )")
        return part

    def _read_flags(self) -> _Flags:
        flags = _Flags(self._flags.fold, self._flags.multi_line, self._flags.dot_all)
        value = True
        while self._peek() not in (":", ")"):
            match self._take():
                case "i":
                    flags.fold = value
                case "m":
                    flags.multi_line = value
                case "s":
                    flags.dot_all = value
                case "U":
                    pass  # Greedy or not makes no difference to whether it matches.
                case "-" if value:
                    value = False
                case _:
                    raise RegexError("invalid flags")
        return flags

    def _bracket(self) -> Test:
        negated = self._skip("^")
        tests: list[Test] = []
        first = True
        while first or self._peek() != "]":
            first = False
            if self._pattern.startswith("[:", self._at) and ":]" in self._pattern[self._at :]:
                name, _, _ = self._pattern[self._at + 2 :].partition(":]")
                self._at += len(name) + 4
                posix = _POSIX.get(name.removeprefix("^"))
                if posix is None:
                    raise RegexError("invalid character class")
                tests.append(_not(posix) if name.startswith("^") else posix)
                continue
            low = self._bracket_item()
            if not isinstance(low, str):
                tests.append(low)
                continue
            high = low
            if self._peek() == "-" and not self._pattern.startswith("-]", self._at):
                self._at += 1
                item = self._bracket_item()
                if not isinstance(item, str) or item < low:
                    raise RegexError("invalid character class range")
                high = item
            tests.append(_range(low, high))
        self._at += 1
        found = _either(tests)
        if self._flags.fold:
            found = _folded(found)
        return _not(found) if negated else found

    def _bracket_item(self) -> str | Test:
        char = self._take()
        if char != "\\":
            return char
        return self._escaped()

    def _escape(self) -> Test:
        item = self._escaped()
        return _range(item, item) if isinstance(item, str) else item

    def _escaped(self) -> str | Test:
        """What stands after a backslash: a character, or a class of them."""
        char = self._take()
        if char in _CLASSES:
            return _CLASSES[char]
        if char.lower() in _CLASSES:
            return _not(_CLASSES[char.lower()])
        if char in _CONTROLS:
            return _CONTROLS[char]
        if char in ("p", "P"):
            category = self._take()
            if category not in "CLMNPSZ":
                raise RegexError("invalid character class")
            found = lambda char: unicodedata.category(char).startswith(category)  # noqa: E731
            return _not(found) if char == "P" else found
        if char == "x":
            return self._number(2, 16)
        if char in "01234567":
            return self._octal(char)
        if _is_word(char):
            raise RegexError("invalid escape sequence")
        return char

    def _number(self, digits: int, base: int) -> str:
        text = self._pattern[self._at : self._at + digits]
        try:
            value = int(text, base)
        except ValueError:
            raise RegexError("invalid escape sequence") from None
        if len(text) != digits or not text.isalnum():
            raise RegexError("invalid escape sequence")
        self._at += digits
        return chr(value)

    def _octal(self, first: str) -> str:
        text = first
        while len(text) < 3 and self._peek() in tuple("01234567"):
            text += self._take()
        if first != "0" and len(text) < 2:
            raise RegexError("invalid escape sequence")  # A reference to a group, which RE2 has not.
        return chr(int(text, 8))


_State = tuple[frozenset[int], str]
"""The instructions to go on from, before assertions are looked at, and what the character before was: nothing, \\n, a word's, another."""


class Regex:
    """A compiled expression. Raises RegexError where RE2 would not compile it."""

    def __init__(self, pattern: str) -> None:
        compiler = _Compiler(pattern)
        self._first = compiler.compile()
        self._steps = compiler.steps
        self._next: dict[tuple[_State, str], _State | None] = {}
        self._visited = 0

    def search(self, text: str) -> bool:
        """Whether it matches anywhere in the text. Raises TooCostly."""
        state: _State = (frozenset((self._first,)), _END)
        for char in text:
            found = self._step(state, char)
            if found is None:
                return True
            state = found
        return self._step(state, _END) is None

    def _step(self, state: _State, char: str) -> _State | None:
        """The state after this character (`_END`: the text's end); None as soon as there is a match."""
        key = (state, char)
        if key in self._next:
            return self._next[key]
        if len(self._next) >= STATES_MAX:
            self._next.clear()
        self._next[key] = found = self._walk(state, char)
        return found

    def _walk(self, state: _State, char: str) -> _State | None:
        waiting, before = list(state[0]), state[1]
        seen: set[int] = set(waiting)
        after: set[int] = {self._first}
        matched = False
        while waiting:
            step = self._steps[waiting.pop()]
            self._visited += 1
            if step.consume is not None:
                if char != _END and step.consume(char):
                    after.update(step.to)
                continue
            if step.holds is not None and not step.holds(before, char):
                continue
            matched = matched or not step.to
            waiting += [number for number in step.to if number not in seen]
            seen.update(step.to)
        if self._visited > STEPS_MAX:
            raise TooCostly("too costly to search for")
        return None if matched else (frozenset(after), _kind(char))


def _kind(char: str) -> str:
    """What an assertion needs to know of a character: one that stands for all like it."""
    if char in (_END, "\n"):
        return char
    return "w" if _is_word(char) else " "
