"""What `nacre conformance` selects and how it counts: a test that did not run has not passed."""

from pathlib import Path
from typing import Any

import pytest

from nacre.cli.conformance import page, ratchet, results, selection

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


def test_all_tests_of_a_service_are_those_under_its_name() -> None:
    scenario = "tempest.scenario.test_z.ZTest.test_all[id-4]"
    assert selection.of_services([FAR, scenario, ONE, TWO], frozenset({"compute"})) == [ONE, TWO]


def test_what_has_passed_once_may_not_be_skipped() -> None:
    found = results.gather([ONE, TWO, FAR], [reported(ONE, "success"), reported(TWO, "skip"), reported(FAR, "skip")])
    held = ratchet.hold(found, {results.plain(ONE), results.plain(TWO)})
    assert [outcome.status for outcome in held.outcomes] == ["passed", "failed", "skipped"]
    assert ratchet.BROKEN in held.outcomes[1].cause


def test_the_page_gives_a_reason_for_what_does_not_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "REASONS", tmp_path)
    (tmp_path / "compute.txt").write_text("# of compute\ntempest.api.compute.*.test_two: there are no volumes\n")
    page.keep(tmp_path, "usual", results.gather([ONE, TWO, FAR], [reported(ONE, "success"), reported(TWO, "skip")]))
    page.keep(tmp_path, "ssh", results.gather([FAR], [reported(FAR, "skip")]))
    page.render(tmp_path)
    shown = (tmp_path / "conformance.md").read_text()
    assert "| compute | 2 | 1 | 0 | 1 |" in shown
    assert "| network | 1 | 0 | 1 | 0 |" in shown
    assert "1: there are no volumes\n\n- `servers.test_x.XTest.test_two` (skipped)" in shown
    assert page.NO_REASON in shown.partition("## network")[2]
    # A later run of one service leaves the others as they were.
    page.keep(tmp_path, "usual", results.gather([FAR], [reported(FAR, "success")]))
    page.render(tmp_path)
    assert "| compute | 2 | 1 | 0 | 1 |" in (tmp_path / "conformance.md").read_text()
    assert page.NO_REASON not in (tmp_path / "conformance.md").read_text()


def test_the_committed_page_has_a_reason_for_everything() -> None:
    committed = Path(__file__).parents[2] / "docs/conformance.md"
    assert not committed.exists() or page.NO_REASON not in committed.read_text()
