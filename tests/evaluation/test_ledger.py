import json

import pytest
from click.testing import CliRunner

from cifar_pipeline.cli import main
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.evaluation.ledger import (
    Claim,
    Run,
    judge,
    ledger,
    load_claims,
    load_runs,
    markdown,
    merge,
    record,
    run_of,
    write_ledger,
)
from cifar_pipeline.params import load_params
from cifar_pipeline.paths import Workspace
from tests.evaluation.test_report import PROVENANCE
from tests.workspaces import CHECKOUT

CLAIM = Claim(system="K1", what="a CNN", recipe="cnn9", weights="none", metric="top1", value=0.59, evidence="as claimed")


def run(low=0.58, high=0.60, **changes):
    content = {
        "recipe": "cnn9",
        "run_id": "0123456789",
        "profile": "seed",
        "seed": 1,
        "weights": "none",
        "n": 10_000,
        "parameters": 5,
        "training_s": 60.0,
        "metrics": {"top1": (low + high) / 2, "top1_low": low, "top1_high": high, "nll": 1.5, "nll_low": 1.4, "nll_high": 1.6},
        "hardware": "a machine",
        "versions": {"keras": "3"},
        "code_revision": "abc",
        "finished": "2026-01-01T00:00:00+00:00",
    }
    return Run.model_validate(content | changes)


@pytest.mark.parametrize(
    ("runs", "verdict"),
    [
        ([], "not yet run"),
        ([run()], "reproduced"),
        ([run(0.59, 0.61)], "reproduced"),
        ([run(0.591, 0.61)], "not reproduced"),
        ([run(0.5, 0.589)], "not reproduced"),
        ([run(profile="laptop")], "not yet run"),
        ([run(weights="imagenet")], "not yet run"),
        ([run(n=500)], "not yet run"),
        ([run(recipe="efficientnet_b0")], "not yet run"),
        ([run(finished="2026-02-01T00:00:00+00:00"), run(0.5, 0.51)], "reproduced"),
    ],
)
def test_the_rule(runs, verdict):
    assert judge(CLAIM, runs)["verdict"] == verdict


def test_counts_must_be_equal_and_losses_inside():
    parameters, loss = (CLAIM.model_copy(update={"metric": metric, "value": value}) for metric, value in (("parameters", 5), ("nll", 1.47)))
    assert judge(parameters, [run()])["verdict"] == judge(loss, [run()])["verdict"] == "reproduced"
    assert judge(parameters, [run(parameters=6)])["verdict"] == "not reproduced"
    assert judge(CLAIM.model_copy(update={"value": None}), [run()])["verdict"] == "nothing to reproduce"


def test_other_settings_are_shown_and_decide_nothing():
    row = judge(CLAIM, [run(profile="quick"), run(0.61, 0.63, profile="laptop", run_id="fedcba9876")])
    assert row["re-run with its settings"] == "–"
    assert row["other settings"] == "62.00%, 61.00% to 63.00% (`laptop`, from random weights, n 10,000, run fedcba98)"


def test_claims_name_recipes_that_exist(params_file):
    claims = load_claims()
    assert {claim.recipe for claim in claims} - {None} <= set(load_params(params_file).recipes)
    assert {claim.system for claim in claims} == {
        *("K1", "K2", "C1", "C2", "C3", "C4", "C5", "C6", "C7", "C1s", "C7s"),
        *("V0", "V1", "V2", "V3", "R0", "R1", "S1", "S2"),
    }


def test_a_claim_of_every_system_has_a_row_even_without_runs():
    rows = ledger([])
    assert len(rows) == len(load_claims())
    assert set(rows["verdict"]) == {"not yet run", "nothing to reproduce"}


def test_runs_survive_the_disk_and_are_there_once(tmp_path):
    record(tmp_path / "runs.json", merge([run()], [run(), run(run_id="b", finished="2026-02-01T00:00:00+00:00")]))
    assert [found.run_id for found in load_runs(tmp_path / "runs.json")] == ["0123456789", "b"]
    assert load_runs(tmp_path / "none.json") == []
    (tmp_path / "runs.json").write_text('[{"recipe": 1}]')
    with pytest.raises(PipelineError, match=r"runs.json is damaged .*`git checkout`"):
        load_runs(tmp_path / "runs.json")


def test_a_run_is_read_from_its_artefacts(tmp_path):
    (tmp_path / "provenance.json").write_text(json.dumps(PROVENANCE | {"generated": False}))
    (tmp_path / "metrics.json").write_text(json.dumps({"n": 10_000, "top1": 0.5, "top1_low": 0.49, "top1_high": 0.51, "brier": 0.3}))
    found = run_of("cnn9", tmp_path, tmp_path)
    assert found is not None
    assert (found.recipe, found.run_id, found.seed, found.weights) == ("cnn9", "456", 1, "none")
    assert found.metrics == {"top1": 0.5, "top1_low": 0.49, "top1_high": 0.51}
    (tmp_path / "provenance.json").write_text(json.dumps(PROVENANCE))
    assert run_of("cnn9", tmp_path, tmp_path) is None
    with pytest.raises(PipelineError, match="materialize the report of 'cnn9' first"):
        run_of("cnn9", tmp_path / "none", tmp_path)


def test_its_page_needs_nothing_else(tmp_path):
    verdicts = write_ledger([run()], tmp_path / "ledger")
    assert verdicts == {"reproduced": 2, "not reproduced": 1, "not yet run": 19, "nothing to reproduce": 1}
    page = (tmp_path / "ledger" / "index.html").read_text()
    assert "://" not in page
    assert "0123456789" in page


def test_recording_adds_what_data_holds_once(params_file, tmp_path, monkeypatch):
    monkeypatch.setenv("CIFAR_ROOT", str(tmp_path))
    failed = CliRunner().invoke(main, ["ledger", "--record"])
    assert (failed.exit_code, "materialize the report of 'cnn9' first" in failed.output) == (1, True)
    home = Workspace(tmp_path)
    for name in load_params(params_file).models:
        for folder in (home.report(name), home.model(name)):
            folder.mkdir(parents=True)
        provenance = PROVENANCE | {"generated": False, "profile": "laptop"}
        (home.model(name) / "provenance.json").write_text(json.dumps(provenance))
        (home.report(name) / "metrics.json").write_text(json.dumps(run().metrics | {"n": 10_000}))
    for _ in range(2):
        printed = CliRunner().invoke(main, ["ledger", "--record"]).output
        assert [found.recipe for found in load_runs(home.recorded_runs)] == ["cnn9", "efficientnet_b0"]
    assert "59.00%, 58.00% to 60.00% (`laptop`, from random weights, n 10,000, run 456)" in printed


def test_the_readme_shows_what_the_command_prints():
    printed = CliRunner().invoke(main, ["ledger"]).output
    assert printed == markdown(ledger(load_runs(CHECKOUT / "benchmarks" / "results" / "runs.json")))
    assert printed in (CHECKOUT / "README.md").read_text()
