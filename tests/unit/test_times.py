"""Moments as text, and back."""

import pytest

from nacre.cloud.errors import Invalid
from nacre.panes.edge import times


@pytest.mark.parametrize("text", ["2026-11-21T12:00:00Z", "2026-11-21T12:00:00", "2026-11-21T13:30:00+01:30"])
def test_a_moment_there_and_back(text: str) -> None:
    assert times.seconds(times.parse(text, "expires_at")) == "2026-11-21T12:00:00Z"
    assert times.micros(times.parse(text, "expires_at")) == "2026-11-21T12:00:00.000000Z"


@pytest.mark.parametrize(
    "text", ["bad.123Z", "", "2026-13-01T00:00:00Z", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+01:00"]
)
def test_a_moment_that_could_not_be_shown_is_refused_and_poisons_no_list(text: str) -> None:
    with pytest.raises(Invalid, match="expires_at"):
        times.parse(text, "expires_at")
