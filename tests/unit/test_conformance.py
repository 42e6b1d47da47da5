"""What `nacre conformance` selects and how it counts: a test that did not run has not passed."""

from pathlib import Path
from typing import Any

from nacre.cli.conformance import results, selection

ONE = "tempest.api.compute.servers.test_x.XTest.test_one[id-1,smoke]"
TWO = "tempest.api.compute.servers.test_x.XTest.test_two[id-2,smoke]"
FAR = "tempest.api.network.test_y.YTest.test_far[id-3]"


def reported(ident: str, status: str, text: str = "") -> dict[str, Any]:
    return {"id": ident, "status": status, "seconds": 1.5, "text": text}


def test_each_wanted_test_has_one_outcome() -> None:
    found = results.gather([ONE, TWO, FAR], [reported(ONE, "success"), reported(TWO, "skip", "no volumes")])
    assert str(found) == "1 passed, 1 failed, 1 skipped"
    assert "did not run" in found.outcomes[2].cause
    assert found.by_service()["network"] == {"failed": 1}
    assert results.report(found)[-1] == "1 passed, 1 failed, 1 skipped"


def test_a_class_that_is_not_set_up_fails_or_skips_its_tests() -> None:
    name = "setUpClass (tempest.api.compute.servers.test_x.XTest)"
    for status, counted in (("fail", "0 passed, 2 failed, 0 skipped"), ("skip", "0 passed, 0 failed, 2 skipped")):
        found = results.gather([ONE, TWO], [reported(name, status, "the cause")])
        assert str(found) == counted
        assert {outcome.cause for outcome in found.outcomes} == {"the cause"}


def test_what_is_not_taken_down_and_a_worker_that_died_are_failures() -> None:
    rest = reported("tearDownClass (tempest.api.compute.servers.test_x.XTest)", "fail", "left over")
    assert str(results.gather([ONE], [reported(ONE, "success"), rest])) == "1 passed, 1 failed, 0 skipped"
    assert str(results.gather([ONE], [reported(ONE, "inprogress")])) == "0 passed, 1 failed, 0 skipped"


def test_the_smoke_tests_of_the_four_services(tmp_path: Path) -> None:
    chosen = selection.select(frozenset(selection.SERVICES), selection.SMOKE)
    assert len(chosen) == 81
    assert not any("BootFromVolume" in test_id for test_id in chosen)
    assert len(selection.select(frozenset((*selection.SERVICES, "volume")), selection.SMOKE)) > 83
    own = tmp_path / "ids.txt"
    own.write_text(f"# mine\n{FAR}\n\n{ONE}\n{FAR}\n")
    assert selection.select(frozenset({"network"}), own) == [FAR]
