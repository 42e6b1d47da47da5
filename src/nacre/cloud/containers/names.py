"""Names of containers: which are allowed, and one for who gave none."""

import random
import re

from nacre.cloud.errors import Invalid

_VALID = re.compile(r"/?[a-zA-Z0-9][a-zA-Z0-9_.-]+")
NAME_MAX = 255

_MANNERS_TEXT = """
able amber apt bold brave bright brisk calm careful cheerful clever cool cosy crisp curious daring dazzling deft eager
earnest easy elegant fair fearless fine firm fond frank free friendly gentle glad golden graceful grand great happy
hardy honest hopeful humble jolly jovial keen kind lively loyal lucid lucky mellow merry mighty modest neat nimble noble
open patient peaceful plain polite proud pure quick quiet radiant ready relaxed rosy serene sharp silent sincere sleepy
smart snug sober steady stoic sunny swift tender tidy tough trusty upbeat valiant vivid warm wise witty zealous
"""
_MANNERS = tuple(_MANNERS_TEXT.split())
_PEOPLE_TEXT = """
abel agnesi albattani allen almeida archimedes ardinghelli aryabhata babbage banach bardeen bartik bell bernoulli bhabha
blackwell bohr boole borg bose boyd brahmagupta brattain brown carson cauchy cerf chandrasekhar chatelet curie darwin
davinci dijkstra dirac driscoll easley edison einstein elion euclid euler faraday fermat fermi feynman fourier franklin
galileo galois gauss germain goldberg golick goodall hamilton hawking heisenberg hertz hodgkin hopper hugle hypatia
jackson jennings johnson joliot jones kalam kare keller kepler khorana kilby knuth kowalevski lalande lamarr lamport
leavitt leibniz liskov lovelace lumiere maxwell mcclintock mclean meitner mendel mendeleev mirzakhani napier neumann
newton nightingale nobel noether northcutt noyce pare pascal pasteur payne perlman pike poincare ptolemy raman ramanujan
ride ritchie rosalind rubin sammet shannon shaw shockley sinoussi snyder spence stallman swartz tesla thompson torvalds
turing varahamihira villani wescoff wiles williams wilson wright yalow yonath
"""
_PEOPLE = tuple(_PEOPLE_TEXT.split())
DIGIT_FROM_TRY = 6
"""So many plain names are tried before a digit is added."""
TRIES_MAX = 100


def check(name: str) -> str:
    """The name without the slash that some clients put before it. Raises Invalid."""
    if not _VALID.fullmatch(name) or len(name) > NAME_MAX:
        raise Invalid(f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", field="name")
    return name.removeprefix("/")


def made_up(number: int) -> str:
    """A name as Docker makes them, `keen_hopper`; `number` counts the tries."""
    name = f"{random.choice(_MANNERS)}_{random.choice(_PEOPLE)}"  # noqa: S311 - no secret
    return name if number < DIGIT_FROM_TRY else f"{name}{random.randrange(10)}"  # noqa: S311
