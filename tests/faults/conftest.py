"""What several tests of faults begin with."""

from collections.abc import Iterator

import pytest

from tests.postgres import Cluster


@pytest.fixture
def server() -> Iterator[Cluster]:
    """A PostgreSQL that the test may stop."""
    cluster = Cluster()
    yield cluster
    cluster.close()
