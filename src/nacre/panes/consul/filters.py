"""`?filter=`: boolean expressions over what a list shows (https://developer.hashicorp.com/consul/api-docs/features/filtering).

    EXPRESSION  = AND { "or" AND }            AND = NOT { "and" NOT }          NOT = [ "not" ] ( "(" EXPRESSION ")" | MATCH )
    MATCH       = SELECTOR ( "==" | "!=" | ["not"] "contains" | ["not"] "matches" ) VALUE
                | SELECTOR "is" ["not"] "empty"
                | VALUE ["not"] "in" SELECTOR

A selector names a field as the list shows it, with dots between, and any key of a map: `Meta.env`, `Meta["a key"]`. What a map does not
have makes only the negative operators true. A selector that no entry of the list can have is an error, also where the list is empty.
"""

import json
import re
from collections.abc import Callable
from typing import Any

from nacre.cloud.errors import Invalid
from nacre.cloud.scheduler.regex import Regex, RegexError, TooCostly
from nacre.panes.edge import Call

Row = dict[str, Any]
Test = Callable[[Row], bool]

CHARACTERS_MAX = 4096
DEPTH_MAX = 64
"""How deep parentheses and `not` may lie in each other."""
FAILED = "Failed to create boolean expression evaluator: "
_TOKEN = re.compile(
    r"""\s*(?:(?P<text>`[^`]*`|"[^"]*")|(?P<number>-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?![A-Za-z0-9_.]))"""
    r"""|(?P<name>[A-Za-z][A-Za-z0-9_/]*)|(?P<sign>==|!=|[()\[\].]))"""
)
_MISSING = object()

SERVICE: Row = {
    "ID": "", "Service": "", "Tags": [], "Address": "", "TaggedAddresses": {}, "Meta": {}, "Port": 0,
    "Weights": {"Passing": 0, "Warning": 0}, "EnableTagOverride": False, "Datacenter": "",
}  # fmt: skip
"""What each list's entries have, with a value of its kind. An empty object is a map, whose keys are anybody's."""
NODE: Row = {"ID": "", "Node": "", "Address": "", "Datacenter": "", "TaggedAddresses": {}, "Meta": {}}
CATALOG_SERVICE: Row = {
    "ID": "", "Node": "", "Address": "", "Datacenter": "", "TaggedAddresses": {}, "NodeMeta": {}, "ServiceKind": "", "ServiceID": "",
    "ServiceName": "", "ServiceTags": [], "ServiceAddress": "", "ServiceTaggedAddresses": {},
    "ServiceWeights": {"Passing": 0, "Warning": 0}, "ServiceMeta": {}, "ServicePort": 0, "ServiceEnableTagOverride": False,
}  # fmt: skip
NAMED_SERVICE: Row = {name: value for name, value in CATALOG_SERVICE.items() if name.startswith("Service")}
CHECK: Row = {
    "Node": "", "CheckID": "", "Name": "", "Status": "", "Notes": "", "Output": "", "ServiceID": "", "ServiceName": "",
    "ServiceTags": [], "Type": "", "Interval": "", "Timeout": "", "Definition": {},
}  # fmt: skip
INSTANCE: Row = {"Node": NODE, "Service": SERVICE, "Checks": []}
MEMBER: Row = {"Name": "", "Addr": "", "Port": 0, "Tags": {}, "Status": 0}


def wanted(call: Call, shape: Row) -> Test:
    """What the request's filter says of an entry; without one all are wanted. Raises Invalid."""
    text = call.query.get("filter", "")
    return parse(text, shape) if text.strip() else lambda row: True


def parse(text: str, shape: Row) -> Test:
    """Raises Invalid with the place where the text makes no sense."""
    if len(text) > CHARACTERS_MAX:
        raise Invalid(f"{FAILED}the expression is longer than {CHARACTERS_MAX} characters", field="filter")
    parser = _Parser(text, shape)
    test = parser.either(0)
    if parser.kind:
        raise parser.trouble('"and", "or" or the end')
    return test


class _Parser:
    """Reads from left to right, one token ahead: `kind` ("" at the end) and `token`."""

    def __init__(self, text: str, shape: Row) -> None:
        self._text, self._shape = text, shape
        self._at = self._began = 0
        self.kind = self.token = ""
        self._next()

    def _next(self) -> str:
        """Go on; the token that was there."""
        taken = self.token
        self._began = self._at
        found = _TOKEN.match(self._text, self._at)
        if found is None:
            if self._text[self._at :].strip():
                raise self.trouble("a selector, a value or an operator")
            self.kind = self.token = ""
            return taken
        self.kind = found.lastgroup or ""
        self.token, self._at = found[self.kind], found.end()
        self._began = found.start(self.kind)
        return taken

    def trouble(self, expected: str) -> Invalid:
        return Invalid(f"{FAILED}1:{self._began + 1} ({self._began}): no match found, expected: {expected}", field="filter")

    def _takes(self, *words: str) -> bool:
        """Whether these words come; then they are taken."""
        before = (self._at, self._began, self.kind, self.token)
        for word in words:
            if self.kind == "text" or self.token != word:
                self._at, self._began, self.kind, self.token = before
                return False
            self._next()
        return True

    def either(self, depth: int) -> Test:
        left = self._both(depth)
        while self._takes("or"):
            left = _or(left, self._both(depth))
        return left

    def _both(self, depth: int) -> Test:
        left = self._one(depth)
        while self._takes("and"):
            left = _and(left, self._one(depth))
        return left

    def _one(self, depth: int) -> Test:
        if depth > DEPTH_MAX:
            raise Invalid(f"{FAILED}the expression is more than {DEPTH_MAX} deep", field="filter")
        if self._takes("not"):
            inner = self._one(depth + 1)
            return lambda row: not inner(row)
        if self._takes("("):
            inner = self.either(depth + 1)
            if not self._takes(")"):
                raise self.trouble('")"')
            return inner
        return self._match()

    def _match(self) -> Test:
        """A word on the left is a selector or a value: the operator tells."""
        if self.kind in ("text", "number"):
            return self._within(self._value())
        path = self._path()
        for word in ("==", "!="):
            if self._takes(word):
                return _equal(self._selected(path), self._value(), negated=word == "!=")
        if self._takes("is"):
            negated = self._takes("not")
            if not self._takes("empty"):
                raise self.trouble('"empty"')
            return _empty(self._selected(path), negated=negated)
        for word, make in (("contains", _contains), ("matches", _matches)):
            for negated in (False, True):
                if self._takes(*(("not",) if negated else ()), word):
                    return make(self._selected(path), self._value(), negated=negated)
        return self._within(".".join(path))

    def _within(self, value: str) -> Test:
        for negated in (False, True):
            if self._takes(*(("not",) if negated else ()), "in"):
                return _contains(self._selected(self._path()), value, negated=negated)
        raise self.trouble('"==", "!=", "is", "contains", "matches", "in" or "not"')

    def _value(self) -> str:
        if self.kind == "number":
            return self._next()
        if self.kind == "text":
            return self._unquoted(self._next())
        return ".".join(self._path())

    def _unquoted(self, literal: str) -> str:
        if literal[0] == "`":
            return literal[1:-1]
        try:
            return str(json.loads(literal, strict=False))
        except ValueError:
            raise self.trouble("a string") from None

    def _path(self) -> list[str]:
        if self.kind != "name":
            raise self.trouble("a selector")
        path = [self._next()]
        while True:
            if self._takes("."):
                if self.kind not in ("name", "number"):
                    raise self.trouble("a name")
                path.append(self._next())
            elif self._takes("["):
                if self.kind != "text":
                    raise self.trouble("a string")
                path.append(self._unquoted(self._next()))
                if not self._takes("]"):
                    raise self.trouble('"]"')
            else:
                return path

    def _selected(self, path: list[str]) -> "_Field":
        """Raises Invalid for what no entry can have."""
        at: Any = self._shape
        for name in path:
            if isinstance(at, dict) and not at:
                at = ""  # A map's value.
            elif isinstance(at, dict) and name in at:
                at = at[name]
            else:
                raise Invalid(f'{FAILED}Selector "{".".join(path)[:200]}" is not valid', field="filter")
        return _Field(path, at)


class _Field:
    """Where a value is found in an entry, and an example of it."""

    def __init__(self, path: list[str], example: Any) -> None:
        self.path, self.example = path, example

    def of(self, row: Row) -> Any:
        found: Any = row
        for name in self.path:
            found = found.get(name, _MISSING) if isinstance(found, dict) else _MISSING
        return found

    def refuse(self, operator: str) -> Invalid:
        return Invalid(f'{FAILED}Invalid match operator "{operator}" for selector "{".".join(self.path)}"', field="filter")

    def cast(self, value: str) -> Any:
        """The value of an expression as one of the field's kind. Raises Invalid."""
        if isinstance(self.example, bool):
            known = {"true": True, "false": False, "1": True, "0": False, "t": True, "f": False}
            if value.lower() not in known:
                raise Invalid(f"{FAILED}Failed to convert {value[:100]!r} to a boolean", field="filter")
            return known[value.lower()]
        if isinstance(self.example, int):
            if not re.fullmatch(r"-?[0-9]{1,18}", value):
                raise Invalid(f"{FAILED}Failed to convert {value[:100]!r} to a number", field="filter")
            return int(value)
        return value


def _or(left: Test, right: Test) -> Test:
    return lambda row: left(row) or right(row)


def _and(left: Test, right: Test) -> Test:
    return lambda row: left(row) and right(row)


def _equal(field: _Field, value: str, *, negated: bool) -> Test:
    if isinstance(field.example, (dict, list)):
        raise field.refuse("Not Equal" if negated else "Equal")
    expected = field.cast(value)
    return lambda row: (_shown(field.of(row)) == expected) is not negated


def _shown(found: Any) -> Any:
    """A map's value is compared as text, whatever JSON it is."""
    if found is _MISSING or found is None or isinstance(found, (str, int)):
        return found
    return json.dumps(found, separators=(",", ":"))


def _empty(field: _Field, *, negated: bool) -> Test:
    if isinstance(field.example, int) or (isinstance(field.example, dict) and field.example):
        raise field.refuse("Is Not Empty" if negated else "Is Empty")
    return lambda row: (field.of(row) in (_MISSING, None, "", [], {})) is not negated


def _contains(field: _Field, value: str, *, negated: bool) -> Test:
    if isinstance(field.example, int) or (isinstance(field.example, dict) and field.example):
        raise field.refuse("Not In" if negated else "In")

    def test(row: Row) -> bool:
        found = field.of(row)
        return (isinstance(found, (str, list, dict)) and value in found) is not negated

    return test


def _matches(field: _Field, value: str, *, negated: bool) -> Test:
    if not isinstance(field.example, str):
        raise field.refuse("Not Matches" if negated else "Matches")
    try:
        pattern = Regex(value)
    except RegexError as error:
        raise Invalid(f"{FAILED}Failed to compile the regular expression {value[:100]!r}: {error}", field="filter") from None

    def test(row: Row) -> bool:
        found = field.of(row)
        try:
            return (isinstance(found, str) and pattern.search(found)) is not negated
        except TooCostly:
            raise Invalid(f"the regular expression {value[:100]!r} takes too long on what is listed", field="filter") from None

    return test
