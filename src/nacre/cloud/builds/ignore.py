"""What a context leaves out: .dockerignore. Source: https://docs.docker.com/build/concepts/context/#dockerignore-files."""

import posixpath
import re
from functools import lru_cache

PATTERNS_MAX = 1000


class Ignored:
    """The patterns of one .dockerignore, in order: the last one that fits a path, or a folder above it, decides."""

    def __init__(self, text: str) -> None:
        self._rules: list[tuple[re.Pattern[str], bool]] = []
        for line in text.splitlines()[:PATTERNS_MAX]:
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            keep = line.startswith("!")
            pattern = posixpath.normpath(line.removeprefix("!").strip()).lstrip("/")
            if pattern not in ("", "."):
                self._rules.append((compiled(pattern), keep))

    def __bool__(self) -> bool:
        return bool(self._rules)

    def leaves_out(self, path: str) -> bool:
        found = False
        for rule, keep in self._rules:
            if found == keep and _fits(rule, path):
                found = not keep
        return found


def _fits(rule: re.Pattern[str], path: str) -> bool:
    while path:
        if rule.fullmatch(path):
            return True
        path = path.rpartition("/")[0]
    return False


@lru_cache(maxsize=4096)
def compiled(pattern: str) -> re.Pattern[str]:
    """A pattern of Go's filepath.Match, with `**` for any number of folders."""
    made, at = "", 0
    while at < len(pattern):
        sign = pattern[at]
        if pattern.startswith("**/", at):
            made, at = made + "(?:.*/)?", at + 3
        elif pattern.startswith("**", at):
            made, at = made + ".*", at + 2
        elif sign == "*":
            made, at = made + "[^/]*", at + 1
        elif sign == "?":
            made, at = made + "[^/]", at + 1
        elif sign == "\\" and at + 1 < len(pattern):
            made, at = made + re.escape(pattern[at + 1]), at + 2
        elif sign == "[" and (close := pattern.find("]", at + 2)) > 0:
            inner = pattern[at + 1 : close].replace("\\", "\\\\").replace("[", "\\[")
            made, at = made + f"[{inner}]", close + 1
        else:
            made, at = made + re.escape(sign), at + 1
    try:
        return re.compile(made, re.DOTALL)
    except re.error:
        return re.compile(re.escape(pattern))
