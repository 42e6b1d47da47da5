"""Microversions as OpenStack's API working group defines them: `OpenStack-API-Version: compute 2.79`.

A service's versions are a table, one sentence each, in its `microversions` file.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from nacre.cloud.errors import CloudError, Invalid


class Version(NamedTuple):
    """A microversion, ordered as numbers are."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"

    @classmethod
    def parse(cls, text: str) -> "Version":
        match = re.fullmatch(r"([1-9]\d{0,5})\.(0|[1-9]\d{0,5})", text)
        if match is None:
            raise Invalid(
                f"API Version String {text} is of invalid format. Must be of format MajorNum.MinorNum.", field="version"
            )
        return cls(int(match[1]), int(match[2]))


class NotAcceptable(CloudError):
    """The asked version lies outside the supported range: 406."""


@dataclass(frozen=True)
class Microversions:
    """A service's versions, and how a request asks for one."""

    service_type: str
    table: Mapping[Version, str]
    """Each version with a sentence on what it changes, oldest first."""
    legacy_header: str | None = None

    @cached_property
    def minimum(self) -> Version:
        return next(iter(self.table))

    @cached_property
    def maximum(self) -> Version:
        return next(reversed(list(self.table)))

    def requested(self, headers: Mapping[str, str]) -> Version:
        """The version a request asks for; the minimum when it asks for none. Raises Invalid (400) or NotAcceptable (406)."""
        wanted = self._named(headers)
        if wanted is None:
            return self.minimum
        if wanted == "latest":
            return self.maximum
        version = Version.parse(wanted)
        if not self.minimum <= version <= self.maximum:
            raise NotAcceptable(
                f"Version {version} is not supported by the API. Minimum is {self.minimum} and maximum is {self.maximum}."
            )
        return version

    def _named(self, headers: Mapping[str, str]) -> str | None:
        for part in headers.get("OpenStack-API-Version", "").split(","):
            service_type, _, version = part.strip().partition(" ")
            if service_type == self.service_type and version:
                return version.strip()
        return headers.get(self.legacy_header) if self.legacy_header else None
