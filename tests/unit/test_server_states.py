"""What a server's status is, from its row."""

from collections import defaultdict
from typing import Any

from nacre.cloud.compute.states import State, state_of


def row(**columns: Any) -> dict[str, Any]:
    """A running server's row; what is not said is null."""
    return defaultdict(
        lambda: None, {"host_id": "h", "observed_state": "running", "observed_generation": 1, "generation": 1} | columns
    )


def test_a_client_that_waits_for_vm_state_resized_can_confirm_at_once() -> None:
    resizing = row(action="resize", old_flavor={}, generation=2)
    assert state_of(resizing) == State("RESIZE", "active", "resize_finish", 1)
    assert state_of(resizing | {"observed_generation": 2}) == State("VERIFY_RESIZE", "resized", None, 1)
    reverting = resizing | {"action": "revert-resize", "generation": 3}
    assert state_of(defaultdict(lambda: None, reverting)) == State("REVERT_RESIZE", "resized", "resize_reverting", 1)
