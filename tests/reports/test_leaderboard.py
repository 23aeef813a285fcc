import json
import shutil

import numpy as np
import pandas as pd
import pytest

from cifar_pipeline.dataset.classes import Classes
from cifar_pipeline.dataset.table import read_table
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.evaluation.metrics import wilson
from cifar_pipeline.reports.leaderboard import Entry, entries_under, write_leaderboard
from cifar_pipeline.settings.evaluation import Ensemble
from tests.reports.artefacts import PROVENANCE, entry_of, recipe_with


def test_a_leaderboard_orders_models_and_compares_them_in_pairs(
    classes, shared_inputs, labels, tmp_path
):
    number = np.arange(200)
    entries = {
        "worse": entry_of(
            tmp_path / "worse", classes, shared_inputs, labels, number % 4 > 0, temperature=None
        ),
        "better": entry_of(
            tmp_path / "better",
            classes,
            shared_inputs,
            labels,
            number % 10 > 0,
            recipe=recipe_with(image_size=64),
        ),
    }
    losses = {
        name: json.loads((tmp_path / name / "metrics.json").read_text())["nll"] for name in entries
    }
    board = write_leaderboard(entries, {}, tmp_path / "board")
    assert list(board["model"]) == ["better", "worse"]
    assert board["ece15_scaled"].isna().tolist() == [False, True]
    pairs = pd.read_csv(tmp_path / "board" / "pairs.csv").iloc[0]
    assert (pairs["first"], pairs["second"], pairs["difference"]) == (
        "better",
        "worse",
        pytest.approx(0.15),
    )
    assert (pairs["only_first"], pairs["only_second"]) == (40, 10)
    page = (tmp_path / "board" / "index.html").read_text()
    assert "Generated images" in page
    assert "<td>15.10%</td><td>–</td>" in page  # of the model without a temperature
    assert "<td>+15.00<small>+8." in page
    assert page.count('<img alt="') == page.count("<img") == 3
    assert 'href="../reports/better/index.html"' in page
    assert json.loads((tmp_path / "board" / "metrics.json").read_text()) == {
        "images": "generated",
        "n": 200,
        "nll": {name: pytest.approx(loss, rel=1e-5) for name, loss in losses.items()},
        "top1": {"better": 0.9, "worse": 0.75},
    }


def test_models_without_a_report_under_the_profile_are_named(
    classes, shared_inputs, labels, tmp_path
):
    made = entry_of(
        tmp_path / "made", classes, shared_inputs, labels, np.arange(200) % 4 > 0, temperature=None
    )
    models = {"made": made, "waiting": Entry(tmp_path / "none", tmp_path / "none.parquet", 0.0)}
    entries = entries_under(PROVENANCE["profile"], models)
    assert list(entries) == ["made"]
    write_leaderboard(entries, {}, tmp_path / "board", missing=["waiting"])
    page = (tmp_path / "board" / "index.html").read_text()
    assert "Without waiting: in the graph, but not made under this profile yet." in page
    with pytest.raises(PipelineError, match="no model has a report under the profile 'best'"):
        entries_under("best", models)


def test_ensembles_stand_on_the_leaderboard_beside_their_best_member(
    classes, shared_inputs, labels, tmp_path
):
    number = np.arange(200)
    entries = {
        name: entry_of(
            tmp_path / name,
            classes,
            shared_inputs,
            labels,
            number % every > 0,
            temperature=None,
            recipe=recipe_with(image_size=every),
        )
        for name, every in (("half", 2), ("most", 4))
    }
    ensembles = {
        "both": Ensemble(members=("half", "most")),
        "most_mirrored": Ensemble(members=("most",), mirrored=True),
    }
    board = write_leaderboard(entries, ensembles, tmp_path / "board")
    assert board["ece15_scaled"].isna().all()
    table = pd.read_csv(tmp_path / "board" / "ensembles.csv").set_index("ensemble")
    assert set(table["best_member"]) == {"most"}
    assert set(table["passes"]) == {2}
    assert table["parameters"].to_dict() == {"both": 24, "most_mirrored": 12}
    assert table.loc["most_mirrored", ["top1", "difference"]].tolist() == [0.75, 0]
    page = (tmp_path / "board" / "index.html").read_text()
    assert "most, with mirror images" in page


def test_models_of_the_superclasses_stand_apart(
    classes, shared_inputs, labels, coarse_labels, tmp_path
):
    coarse = Classes.of(read_table(shared_inputs.table), "coarse")
    number = np.arange(200)
    entries = {
        "coarse": entry_of(
            tmp_path / "coarse", coarse, shared_inputs, coarse_labels, number % 10 > 0
        ),
        "fine": entry_of(
            tmp_path / "fine",
            classes,
            shared_inputs,
            labels,
            number % 4 > 0,
            recipe=recipe_with(image_size=64),
        ),
        "worse": entry_of(
            tmp_path / "worse",
            classes,
            shared_inputs,
            labels,
            number % 2 > 0,
            recipe=recipe_with(image_size=16),
        ),
    }
    board = write_leaderboard(entries, {}, tmp_path / "board")
    assert list(board["model"]) == ["fine", "worse", "coarse"]
    pairs = pd.read_csv(tmp_path / "board" / "pairs.csv")
    assert pairs[["first", "second"]].to_numpy().tolist() == [["fine", "worse"]]
    page = (tmp_path / "board" / "index.html").read_text()
    assert page.index("Models of the 100 classes") < page.index("Models of the 20 superclasses")


def test_seeds_of_a_recipe_are_one_entry(classes, shared_inputs, labels, tmp_path):
    number = np.arange(200)
    entries = {
        f"seed{seed}": entry_of(
            tmp_path / f"seed{seed}",
            classes,
            shared_inputs,
            labels,
            number % every > 0,
            recipe=recipe_with(seed=seed),
        )
        for seed, every in ((1, 2), (2, 4), (3, 10))
    }
    (row,) = write_leaderboard(entries, {}, tmp_path / "board").to_dict("records")
    assert (row["model"], row["seeds"], row["n"]) == ("seed1", 3, 200)
    assert row["top1"] == pytest.approx(np.mean([0.5, 0.75, 0.9]))
    assert row["top1_spread"] == pytest.approx(np.std([0.5, 0.75, 0.9], ddof=1))
    assert (row["top1_low"], row["top1_high"]) == wilson(round(200 * row["top1"]), 200)
    page = (tmp_path / "board" / "index.html").read_text(encoding="utf-8")
    assert "seed1</a><small>mean of 3 seeds, deviation 20.21%</small>" in page


def test_a_model_below_its_floor_is_refused(made, shared_inputs, tmp_path):
    with pytest.raises(
        PipelineError,
        match=r"'a' is refused: top-1 accuracy of 75.00%, but the profile 'smoke' demands at least "
        r"80.00%; read .*index.html",
    ):
        write_leaderboard(
            {"a": Entry(made, shared_inputs.predictions, 0.8)}, {}, tmp_path / "board"
        )
    assert not (tmp_path / "board").exists()


def test_what_cannot_be_compared_is_refused(made, shared_inputs, tmp_path):
    first = Entry(made, shared_inputs.predictions, 0.0)

    def other(name, **provenance):
        folder = shutil.copytree(made, tmp_path / name)
        (folder / "provenance.json").write_text(json.dumps(PROVENANCE | provenance))
        return Entry(folder, shared_inputs.predictions, 0.0)

    with pytest.raises(PipelineError, match=r"differ in profile: {'a': 'smoke', 'b': 'quick'}"):
        write_leaderboard(
            {"a": first, "b": other("quick", profile="quick")}, {}, tmp_path / "board"
        )
    with pytest.raises(PipelineError, match=r"is not the report on .*; materialize it again"):
        write_leaderboard(
            {"a": first, "b": other("stale", model_sha256="other")}, {}, tmp_path / "board"
        )
    with pytest.raises(PipelineError, match=r"metrics.json is missing; materialize"):
        write_leaderboard(
            {"a": first, "b": Entry(tmp_path / "none", shared_inputs.predictions, 0.0)},
            {},
            tmp_path / "board",
        )
