import json
import re

import pytest
from pydantic import ValidationError

from cifar_pipeline.errors import PipelineError
from cifar_pipeline.reports.claims import Condition, Published, Statement, load_published
from cifar_pipeline.reports.ledger import markdown
from cifar_pipeline.reports.statements import (
    Examined,
    Judged,
    Measurement,
    judge_statements,
    load_measurements,
    of_runs,
)
from tests.reports.test_ledger import run

STUDY = "small_b0"


def measured(setting, *accuracies, study=STUDY, **figures):
    return [
        Measurement(
            study=study, setting=setting, seed=seed, figures={"accuracy": accuracy, **figures}
        )
        for seed, accuracy in enumerate(accuracies)
    ]


def verdict_on(says, measurements):
    (found,) = [j for j in judge_statements(measurements) if says in j.statement.says]
    return found.verdict


def outcome(low, high, **bound):
    condition = Condition(study=STUDY, of="x", metric="accuracy", **bound)
    return Examined(condition, 3, ((low + high) / 2, low, high)).outcome


def test_a_condition_holds_when_the_whole_interval_lies_on_the_claimed_side():
    assert outcome(0.1, 0.2, above=0.05) == outcome(0.1, 0.2, below=0.3) == "holds"
    assert outcome(0.1, 0.2, above=0.3) == outcome(0.1, 0.2, below=0.05) == "fails"
    assert outcome(0.1, 0.2, above=0.15) == outcome(0.1, 0.2, below=0.15) == "is open"
    assert outcome(0.1, 0.1, above=0.1) == outcome(0.1, 0.1, below=0.1) == "fails"


def judged(*outcomes):
    intervals = {"holds": (0.5, 0.4, 0.6), "fails": (-0.5, -0.6, -0.4), "is open": (0, -1, 1)}
    condition = Condition(study=STUDY, of="x", metric="accuracy", above=0.0)
    examined = tuple(Examined(condition, 3, intervals.get(word)) for word in outcomes)
    return Judged(
        Statement(system="K2", says="", conditions=(condition,) * len(outcomes)), examined
    ).verdict


def test_a_statement_is_true_when_all_of_its_conditions_hold():
    assert judged("holds", "holds") == "reproduced"
    assert judged("holds", "is open") == "undecided"
    assert judged("holds", "is open", "not run") == "not yet run"
    assert judged("holds", "is open", "not run", "fails") == "not reproduced"
    assert judged() == "nothing to reproduce"


def test_a_statement_of_one_setting_is_judged_by_the_mean_of_its_seeds():
    """Against the published table of Student's t: 4.303 for two degrees of freedom."""
    nothing, something = (0.010, 0.011, 0.012), (0.30, 0.31, 0.32)
    both = [*measured("rate 0.01", *nothing), *measured("rate 0.001", *nothing)]
    assert verdict_on("learn nothing", both) == "reproduced"
    one = [*measured("rate 0.01", *nothing), *measured("rate 0.001", *something)]
    assert verdict_on("learn nothing", one) == "not reproduced"
    assert verdict_on("learn nothing", measured("rate 0.01", *nothing)) == "not yet run"
    told = next(j for j in judge_statements(one) if "nothing" in j.statement.says).examined[1].told
    low, high = (float(figure) for figure in re.findall(r"\((.+)% to (.+)%\)", told)[0])
    assert (low + high) / 2 == pytest.approx(31, abs=0.01)
    assert (high - low) / 2 == pytest.approx(4.303 / 3**0.5, abs=0.01)
    assert told.startswith("accuracy of rate 0.001 is below 2.00%: fails, 31.00% (")


def test_settings_are_compared_seed_by_seed():
    """The seeds differ far more from each other than the settings do, and are in another order."""
    base = measured("the reported settings", 0.10, 0.20, 0.30)
    lower = measured("RMSProp", 0.09, 0.188, 0.291)[::-1]
    assert verdict_on("RMSProp", [*base, *lower]) == "reproduced"
    assert verdict_on("RMSProp", [*base, *measured("RMSProp", 0.20, 0.10, 0.30)]) == "undecided"
    assert verdict_on("RMSProp", [*base, *lower[:2]]) == "not yet run"
    higher = measured("RMSProp", 0.11, 0.211, 0.312)
    assert verdict_on("RMSProp", [*base, *higher]) == "not reproduced"


def test_one_training_is_judged_by_the_interval_of_its_images():
    figures = {
        f"{name}{end}": value
        for name in ("recall of wardrobe", "F1 of wardrobe", "recall of road", "F1 of road")
        for end, value in (("", 0.9), ("_low", 0.85), ("_high", 0.95))
    }
    (one,) = measured("ladder7_final", 0.5, study="paper", **figures)
    assert verdict_on("cupboards", [one]) == "not yet run"
    (low,) = measured(
        "ladder7_final",
        0.5,
        study="paper",
        **figures | {"F1 of road_low": 0.6, "F1 of road_high": 0.7},
    )
    assert verdict_on("cupboards", [low]) == "not reproduced"


def test_runs_with_the_reports_settings_are_measurements_the_first_of_each_seed():
    later = run(0.7, 0.8, run_id="later", finished="2026-02-01T00:00:00+00:00")
    (only,) = of_runs([later, run(0.5, 0.7), run(profile="laptop", seed=2)])
    assert (only.study, only.setting, only.seed) == ("paper", "cnn9", 1)
    assert only.figures["top1"] == pytest.approx(0.6)


def test_the_steps_of_the_ladder_are_compared_in_the_recorded_runs():
    runs = [
        run(top1, top1, recipe=f"ladder{step}", seed=seed)
        for step in range(1, 6)
        for seed, top1 in enumerate((0.1 * step, 0.1 * step + 0.01, 0.1 * step + 0.02))
    ]
    assert verdict_on("ladder", of_runs(runs)) == "reproduced"
    assert verdict_on("ladder", of_runs(runs[:-1])) == "not yet run"


def test_measurements_are_read_from_the_disk(tmp_path):
    path = tmp_path / "claims.json"
    assert load_measurements(path) == []
    (found,) = measured("RMSProp", 0.3)
    path.write_text(json.dumps([found.model_dump()]))
    assert load_measurements(path) == [found]
    path.write_text('[{"study": 1}]')
    with pytest.raises(PipelineError, match=r"claims.json is damaged .*`git checkout`"):
        load_measurements(path)


def test_a_condition_without_a_bound_or_a_study_is_refused():
    with pytest.raises(ValidationError, match="one bound"):
        Condition(study=STUDY, of="x", metric="accuracy")
    with pytest.raises(ValidationError, match="one bound"):
        Condition(study=STUDY, of="x", metric="accuracy", above=0.1, below=0.2)
    condition = Condition(study="unknown", of="x", metric="accuracy", above=0.1)
    statement = Statement(system="K2", says="it learns", conditions=(condition,))
    reports = load_published().reports
    with pytest.raises(ValidationError, match="conditions of no study: unknown"):
        Published(reports=reports, claims=(), statements=(statement,))


def test_the_markdown_lists_every_statement():
    text = markdown([], [])
    for statement in load_published().statements:
        assert f"| {statement.says} |" in text
