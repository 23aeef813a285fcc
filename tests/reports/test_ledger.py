import json
import re

import pytest
from click.testing import CliRunner
from pydantic import ValidationError

from cifar_pipeline.cli import main
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.paths import Workspace
from cifar_pipeline.reports.claims import Claim, Published, load_published
from cifar_pipeline.reports.judging import judge, ledger
from cifar_pipeline.reports.ledger import markdown, write_ledger
from cifar_pipeline.reports.runs import INTERVALS, Run, load_runs, merge, record, run_of, runs_of
from cifar_pipeline.settings.reading import load_params
from tests.reports.artefacts import PROVENANCE

CLAIM = Claim(
    system="K1",
    what="a CNN",
    recipe="cnn9",
    weights="none",
    metric="top1",
    value=0.59,
    evidence="as claimed",
)


def metrics_of(low, high):
    accuracies = {
        f"{key}{end}": value
        for key in INTERVALS
        for end, value in (("", (low + high) / 2), ("_low", low), ("_high", high))
    }
    return accuracies | {"nll": 1.5, "nll_low": 1.4, "nll_high": 1.6}


def run(low=0.58, high=0.60, **changes):
    content = {
        "recipe": "cnn9",
        "run_id": "0123456789",
        "profile": "paper",
        "seed": 1,
        "weights": "none",
        "n": 10_000,
        "parameters": 5,
        "trainable_parameters": 4,
        "archive_sha256": "def",
        "training_s": 60.0,
        "metrics": metrics_of(low, high),
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
        ([run(0.5, 0.51, finished="2026-02-01T00:00:00+00:00"), run()], "reproduced"),
    ],
)
def test_the_rule(runs, verdict):
    assert judge(CLAIM, runs).verdict == verdict


def test_a_file_that_holds_the_imagenet_weights_counts_as_them():
    """It is known by its checksum, not by its name."""
    claim = CLAIM.model_copy(update={"weights": "imagenet"})
    from_file = run(weights="b0.h5", weights_sha256="a" * 64)
    assert judge(claim, [from_file], {"a" * 64}).verdict == "reproduced"
    assert judge(claim, [from_file], {"b" * 64}).verdict == "not yet run"
    assert judge(claim, [run(weights="b0.h5")], {"a" * 64}).verdict == "not yet run"
    assert judge(CLAIM, [from_file], {"a" * 64}).verdict == "not yet run"


def of_seeds(*accuracies):
    return [
        run(accuracy - 0.01, accuracy + 0.01, seed=seed, run_id=f"seed {seed}")
        for seed, accuracy in enumerate(accuracies)
    ]


def test_from_three_seeds_on_a_claim_is_judged_by_how_they_differ():
    """Against the published table of Student's t: 4.303 for two degrees of freedom."""
    seeds = of_seeds(0.60, 0.61, 0.62)
    assert judge(CLAIM, seeds[:2]).reruns == (seeds[0],)  # two seeds tell too little
    row = judge(CLAIM, seeds)
    assert row.reruns == tuple(seeds)
    _, low, high = (float(figure) for figure in re.findall(r"(\d\d\.\d\d)%", row.figure(*seeds)))
    assert (low + high) / 2 == pytest.approx(61, abs=0.01)
    assert (high - low) / 2 == pytest.approx(4.303 * (4 / 3) ** 0.5, abs=0.01)
    assert row.verdict == "reproduced"
    assert judge(CLAIM, of_seeds(0.65, 0.66, 0.67)).verdict == "not reproduced"
    assert judge(CLAIM, of_seeds(0.598, 0.598, 0.599)).verdict == "not reproduced"
    assert row.cells()["re-run with its settings"].endswith(
        "mean of 3 seeds, profile paper, from random weights, 10,000 images, "
        "run seed 0 seed 1 seed 2"
    )


def test_a_seed_counts_once_and_reads_the_test_split_for_itself():
    again = run(0.3, 0.4, seed=0, run_id="again", finished="2026-02-01T00:00:00+00:00")
    row = judge(CLAIM, [*of_seeds(0.60, 0.61, 0.62), again])
    assert [rerun.run_id for rerun in row.reruns] == ["seed 0", "seed 1", "seed 2"]
    assert row.settings(*row.reruns).endswith("of 2 readings of the test split")
    assert "readings" not in row.settings(*row.reruns[1:])


def test_a_record_tells_a_changed_recipe_from_another_seed(tmp_path):
    def digest(**changes):
        recipe = PROVENANCE["recipe"] | changes
        (tmp_path / "provenance.json").write_text(
            json.dumps(PROVENANCE | {"generated": False, "recipe": recipe})
        )
        (tmp_path / "metrics.json").write_text(json.dumps({"n": 10_000} | metrics_of(0.4, 0.5)))
        return run_of("cnn9", tmp_path).settings_sha256

    first = digest()
    assert len(first) == 64
    assert digest(seed=7) == digest(weights="/elsewhere/b0.h5") == first != digest(image_size=16)


def test_counts_must_be_equal_and_losses_inside():
    parameters, loss = (
        CLAIM.model_copy(update={"metric": metric, "value": value})
        for metric, value in (("parameters", 5), ("nll", 1.47))
    )
    assert judge(parameters, [run()]).verdict == judge(loss, [run()]).verdict == "reproduced"
    assert judge(parameters, [run(parameters=6)]).verdict == "not reproduced"
    assert (
        judge(parameters, [run()]).cells()["re-run with its settings"]
        == "5, profile paper, from random weights, 10,000 images, run 01234567"
    )


def test_where_the_text_is_silent_the_stored_output_is_judged():
    silent = CLAIM.model_copy(update={"value": None, "evidence": "only in a stored output"})
    assert judge(silent, [run()]).verdict == "nothing to reproduce"
    row = judge(silent.model_copy(update={"output": 0.595}), [run()]).cells()
    assert (row["claimed"], row["what its own code shows"], row["verdict"]) == (
        "–",
        "59.50%, only in a stored output",
        "reproduced",
    )


def test_of_other_settings_the_best_and_the_latest_are_shown_and_decide_nothing():
    best = run(0.7, 0.8, profile="quick", run_id="best")
    later = run(0.61, 0.63, profile="laptop", run_id="later", finished="2026-03-01T00:00:00+00:00")
    row = judge(CLAIM, [later, best])
    assert (row.verdict, row.reruns) == ("not yet run", ())
    assert [(label, other.run_id) for label, other in row.others] == [
        ("best", "best"),
        ("latest", "later"),
    ]
    assert row.cells()["runs with other settings"] == (
        "best: 75.00% (70.00% to 80.00%), profile quick, from random weights, 10,000 images, "
        "run best; latest: 62.00% (61.00% to 63.00%), profile laptop, from random weights, "
        "10,000 images, run later"
    )
    (only,) = judge(CLAIM, [best]).others
    assert only == ("best and latest", best)


def test_the_best_loss_is_the_lowest_and_a_count_has_no_best():
    low = run(profile="quick", run_id="low")
    low.metrics.update(nll=1.0, nll_low=0.9, nll_high=1.1)
    high = run(profile="laptop", run_id="high", finished="2026-03-01T00:00:00+00:00")
    loss, count = (CLAIM.model_copy(update={"metric": metric}) for metric in ("nll", "parameters"))
    assert [label for label, _ in judge(loss, [low, high]).others] == ["best", "latest"]
    assert judge(loss, [low, high]).others[0][1] == low
    assert judge(count, [low, high]).others == (("latest", high),)


def test_how_often_the_test_split_was_read_is_told():
    """By recipe and profile; a first reading needs no words."""
    first = run(profile="laptop")
    second = run(profile="laptop", run_id="second", finished="2026-03-01T00:00:00+00:00")
    told = judge(CLAIM, [first]).cells()["runs with other settings"]
    assert "readings" not in told
    told = judge(CLAIM, [first, second, run()]).cells()
    assert told["runs with other settings"].endswith("second, of 2 readings of the test split")
    assert "readings" not in told["re-run with its settings"]


def test_a_variant_is_shown_and_decides_nothing():
    """Even when it has the paper's settings otherwise."""
    row = judge(CLAIM.model_copy(update={"variant": "cnn9_longer"}), [run(recipe="cnn9_longer")])
    assert (row.verdict, row.reruns) == ("not yet run", ())
    assert "recipe cnn9_longer, profile paper" in row.cells()["runs with other settings"]
    assert judge(CLAIM, [run(recipe="cnn9_longer")]).others == ()


def test_claims_name_recipes_that_exist(params_file):
    claims = load_published().claims
    assert {name for claim in claims for name in (claim.recipe, claim.variant)} - {None} <= set(
        load_params(params_file).recipes
    )
    assert {claim.system for claim in claims} == {
        *("K1", "K2", "C1", "C2", "C3", "C4", "C5", "C6", "C7", "C1s", "C7s"),
        *("V0", "V1", "V2", "V3", "R0", "R1", "S1", "S2"),
    }


def test_a_claim_of_no_report_is_refused():
    with pytest.raises(ValidationError, match="claims of no report: K1"):
        Published(reports={}, claims=(CLAIM,))


def test_a_claim_of_every_system_has_a_row_even_without_runs():
    rows = ledger([])
    assert len(rows) == len(load_published().claims)
    assert {row.verdict for row in rows} == {"not yet run", "nothing to reproduce"}


def test_runs_survive_the_disk_and_are_there_once(tmp_path):
    record(
        tmp_path / "runs.json",
        merge([run()], [run(), run(run_id="b", finished="2026-02-01T00:00:00+00:00")]),
    )
    assert [found.run_id for found in load_runs(tmp_path / "runs.json")] == ["0123456789", "b"]
    assert load_runs(tmp_path / "none.json") == []
    (tmp_path / "runs.json").write_text('[{"recipe": 1}]')
    with pytest.raises(PipelineError, match=r"runs.json is damaged .*`git checkout`"):
        load_runs(tmp_path / "runs.json")


def test_a_run_is_read_from_its_report(tmp_path):
    (tmp_path / "provenance.json").write_text(json.dumps(PROVENANCE | {"generated": False}))
    (tmp_path / "metrics.json").write_text(
        json.dumps({"n": 10_000, "brier": 0.3} | metrics_of(0.49, 0.51))
    )
    found = run_of("cnn9", tmp_path)
    assert found is not None
    assert (found.recipe, found.run_id, found.seed, found.weights) == ("cnn9", "456", 1, "none")
    assert found.metrics == metrics_of(0.49, 0.51)
    (tmp_path / "provenance.json").write_text(json.dumps(PROVENANCE))
    assert run_of("cnn9", tmp_path) is None
    (tmp_path / "metrics.json").write_text(json.dumps({"n": 10_000, "top1": 0.5}))
    with pytest.raises(PipelineError, match=r"has no .*: an older release wrote it"):
        run_of("cnn9", tmp_path)
    with pytest.raises(PipelineError, match=r"metrics.json is missing; materialize"):
        run_of("cnn9", tmp_path / "none")


def test_reports_that_are_not_made_yet_have_no_run(tmp_path):
    """`dvc repro` removes the files of a report, and not its folder, before it makes them anew."""
    made, emptied = tmp_path / "made", tmp_path / "emptied"
    for folder in (made, emptied):
        folder.mkdir()
    (made / "provenance.json").write_text(json.dumps(PROVENANCE | {"generated": False}))
    (made / "metrics.json").write_text(json.dumps({"n": 10_000} | metrics_of(0.49, 0.51)))
    found = runs_of([("cnn9", made), ("control", emptied), ("resnet50", tmp_path / "none")])
    assert [run.recipe for run in found] == ["cnn9"]


def test_its_page_needs_no_network_and_leads_to_the_reports(tmp_path):
    verdicts = write_ledger([run()], [], tmp_path / "ledger")
    assert verdicts == {
        "reproduced": 2,
        "not reproduced": 1,
        "not yet run": 27,
        "nothing to reproduce": 2,
    }
    page = (tmp_path / "ledger" / "index.html").read_text(encoding="utf-8")
    links = {published.url for published in load_published().reports.values()}
    assert set(re.findall(r'"(\w+://.+?)"', page)) == links
    assert not re.search(r"src=|@import|url\(", page)
    assert "0123456789" in page
    for kind, sign, verdict in (
        ("yes", "✓", "reproduced"),
        ("no", "✗", "not reproduced"),
        ("open", "…", "not yet run"),
    ):
        assert f'<span class="verdict {kind}">{sign} {verdict}</span>' in page


def test_the_markdown_leads_to_the_reports_too():
    figures, statements = markdown([], []).split("\n## Claims that are not one figure\n\n")
    lines = figures.splitlines()
    for table in (lines, [line for line in statements.splitlines() if line.startswith("|")]):
        assert len({line.count(" | ") for line in table if "---" not in line}) == 1
    url = load_published().reports["K"].url
    assert lines[2].startswith(f"| [K1]({url}) | nine-layer CNN | top-1 | 59.00% |")


def test_recording_adds_what_data_holds_once(params_file, tmp_path, monkeypatch):
    monkeypatch.setenv("CIFAR_ROOT", str(tmp_path))
    failed = CliRunner().invoke(main, ["ledger", "--record"])
    assert (failed.exit_code, "no report on CIFAR-100 that could be" in failed.output) == (1, True)
    home = Workspace(tmp_path)
    for name in load_params(params_file).models:
        home.report(name).mkdir(parents=True)
        provenance = PROVENANCE | {"generated": False, "profile": "laptop"}
        (home.report(name) / "provenance.json").write_text(json.dumps(provenance))
        (home.report(name) / "metrics.json").write_text(json.dumps(run().metrics | {"n": 10_000}))
    for _ in range(2):
        printed = CliRunner().invoke(main, ["ledger", "--record"]).output
        assert [found.recipe for found in load_runs(home.recorded_runs)] == [
            "cnn9",
            "efficientnet_b0",
        ]
    assert (
        "best and latest: 59.00% (58.00% to 60.00%), profile laptop, from random weights, "
        "10,000 images, run 456" in printed
    )
