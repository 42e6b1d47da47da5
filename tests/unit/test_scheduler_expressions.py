"""Swarm's expressions: what is read, what is refused and in which words, and what matches."""

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nacre.cloud.scheduler.conditions import fact, texts_of
from nacre.cloud.scheduler.expressions import VALUE_CHARACTERS_MAX, ExpressionError, Matcher, parse
from nacre.cloud.scheduler.regex import Regex, RegexError, TooCostly


def holds(text: str, *subjects: str) -> bool:
    return Matcher(parse(text))(subjects)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("node", "One of operator ==, != is expected"),
        ("1node==a", "Key '1node' is invalid"),
        ("node ==a", "Key 'node ' is invalid"),
        ("no*de==a", "Key 'no*de' is invalid"),
        ("n==a", "Key 'n' is invalid"),
        ("==a", "Key '' is invalid"),
        ("a!=b==c", "Key 'a!=b' is invalid"),
        ("node==", "Value '' is invalid"),
        ("node==~", "Value '~' is invalid"),
        ("node==~~a", "Value '~~a' is invalid"),
        ("node==a,b", "Value 'a,b' is invalid"),
        ("node==ä", "Value 'ä' is invalid"),
        ("node==" + "a" * (VALUE_CHARACTERS_MAX + 1), f"Value '{'a' * (VALUE_CHARACTERS_MAX + 1)}' is invalid"),
    ],
)
def test_what_cannot_be_read_is_refused_in_swarms_words(text: str, message: str) -> None:
    with pytest.raises(ExpressionError) as refused:
        parse(text)
    assert str(refused.value) == message


def test_key_operator_value_and_softness() -> None:
    found = parse("NoDe.x-y_z==~node 1")
    assert (found.key, found.operator, found.value, found.soft, found.warning) == ("NoDe.x-y_z", "==", "node 1", True, "")
    assert str(parse("storage!=~ssd")) == "storage!=ssd"


def test_a_single_equals_sign_is_taken_as_two_with_a_warning() -> None:
    found = parse("virtual=virtualbox")
    assert (str(found), found.warning) == ("virtual==virtualbox", "virtual=virtualbox: a single = is taken as ==")
    assert parse("virtual=~kvm").soft


@pytest.mark.parametrize(
    ("text", "subjects", "expected"),
    [
        ("name==foo", ("foo",), True),
        ("name==foo", ("bar", "foo"), True),
        ("name==foo", ("foobar",), False),
        ("name!=foo", ("bar",), True),
        ("name!=foo", ("bar", "foo"), False),
        ("name!=foo", (), True),
        ("name==foo", (), False),
        ("name==f*o", ("fuzzo",), True),
        ("name==*", ("",), True),
        ("name!=f*o", ("foo",), False),
        ("name==a.c", ("abc",), True),
        ("name==a|b", ("a-and-more",), True),
        ("name==/^(?i)FRONT-[0-9]+$/", ("front-12",), True),
        ("name==/oo/", ("foot",), True),
        ("name==/o{2}/", (), False),
        ("name==(", ("(",), False),
        ("name!=(", ("(",), True),
        ("name==/", ("/",), True),
        ("overload==/[0-2][0-5]/", ("05",), True),
        ("overload==/[0-2][0-5]/", ("25",), True),
        ("overload==/[0-2][0-5]/", ("26",), False),
        ("overload==/[0-2][0-5]/", ("95",), False),
        ("is_virtual==True", ("true",), True),
        ("is_virtual==FALSE", ("true",), False),
        ("is_virtual!=false", ("True",), True),
        ("name==Foo", ("foo",), False),
    ],
)
def test_matching(text: str, subjects: tuple[str, ...], expected: bool) -> None:
    if "{" in text:
        with pytest.raises(ExpressionError):
            parse(text)
        return
    assert holds(text, *subjects) is expected


_ATOMS = st.sampled_from(
    ["a", "b", "-", ".", "[ab]", "[^a]", "[a-c]", r"\d", r"\w", r"\s", r"\.", "(?:a|b)", "(a|)", "(?i:A)", "[]a]"]
)
_ASSERTIONS = st.sampled_from(["^", "$", r"\b", "|", ""])
_PATTERNS = st.lists(st.tuples(_ATOMS, st.sampled_from(["", "", "*", "+", "?", "*?"]), _ASSERTIONS), max_size=6).map(
    lambda parts: "".join("".join(part) for part in parts)
)


@settings(max_examples=200, deadline=None)
@given(_PATTERNS, st.text("abcAB1-. ]_", max_size=12))
def test_it_finds_what_the_librarys_own_engine_finds(pattern: str, text: str) -> None:
    """Where both have the same syntax: `$` is only the very end in RE2."""
    expected = re.compile(pattern.replace("$", r"\Z"), re.ASCII).search(text) is not None
    assert Regex(pattern).search(text) is expected


@settings(max_examples=200, deadline=None)
@given(st.text(r"ab01()[]*+?|\^$.:-iPpdwsQEx ", max_size=30), st.text("ab01", max_size=10))
def test_anything_is_either_refused_or_searched_for(pattern: str, text: str) -> None:
    try:
        regex = Regex(pattern)
    except RegexError:
        return
    assert regex.search(text) in (True, False)


@pytest.mark.parametrize(
    "pattern", ["a**", "(", ")", "[", "[b-a]", "\\", r"\1", "*a", "(?x)", "(?=a)", r"\y", "(" * 500 + ")" * 500]
)
def test_what_re2_would_not_compile(pattern: str) -> None:
    with pytest.raises(RegexError):
        Regex(pattern)


def test_an_expression_that_backtracks_without_end_elsewhere_takes_linear_time_here() -> None:
    """`re` would take longer than the universe has lasted: 2 to the power of 4000."""
    assert Regex("(a+)+$").search("a" * 4000 + "b") is False
    assert Regex("(a|aa)+b").search("a" * 4000) is False


def test_an_expression_that_is_costly_all_the_same_is_given_up() -> None:
    regex = Regex("(a|b)*a" + "(a|b)" * 60 + "c")
    text = "".join(random.Random(1).choices("ab", k=4000))
    with pytest.raises(TooCostly):
        regex.search(text)


def test_facts_are_found_flat_and_by_path() -> None:
    facts = {
        "architecture": "x86_64",
        "os": {"release": {"major": "12"}, "selinux": {"enabled": False}},
        "networking": {"interfaces": {"eth0.100": {"mtu": 1400}}},
        "drivers": ["local", "flocker"],
        "load.average": 1.5,
    }
    found = {name: texts_of(fact(facts, name)) for name in ("architecture", "os.release.major", "os.selinux.enabled", "drivers")}
    assert found == {
        "architecture": ("x86_64",),
        "os.release.major": ("12",),
        "os.selinux.enabled": ("false",),
        "drivers": ("local", "flocker", "local,flocker"),
    }
    assert texts_of(fact(facts, "networking.interfaces.eth0.100.mtu")) == ("1400",)
    assert texts_of(fact(facts, "load.average")) == ("1.5",)
    assert fact(facts, "os.name") is None
    assert fact(facts, "architecture.x") is None
