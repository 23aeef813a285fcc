import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from matplotlib.image import imread

from cifar_pipeline.dataset.build import build_table, write_table
from cifar_pipeline.dataset.classes import Classes
from cifar_pipeline.dataset.splits import archive_of
from cifar_pipeline.dataset.table import read_table
from cifar_pipeline.drawing.plots import plot_curves
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.evaluation.metrics import Predictions, wilson
from cifar_pipeline.evaluation.predictions import write_predictions
from cifar_pipeline.evaluation.subsets import read_subsets
from cifar_pipeline.reports.leaderboard import Entry, write_leaderboard
from cifar_pipeline.reports.report import PICTURES, Inputs, check_report, evaluate, write_report
from cifar_pipeline.reports.subsets import write_subsets
from cifar_pipeline.settings.evaluation import Ensemble

PROVENANCE = {
    "profile": "smoke",
    "generated": True,
    "weights": {"name": "none"},
    "recipe": {"seed": 1, "image_size": 32, "architecture": {"name": "cnn9"}},
    "parameters": 12,
    "training_s": 3.5,
    "train_images": 1000,
    "validation_images": 200,
    "best_epoch": 2,
    "trainable_parameters": 10,
    "archive_sha256": "abc",
    "model_sha256": "weights",
    "inputs": {"cifar100.parquet": "def"},
    "versions": {"keras": "3.15.1"},
    "hardware": "a machine, 2 cores",
    "device": "cpu:0",
    "finished": "2026-01-01T00:00:00+00:00",
    "code_revision": "0123",
    "run": {"id": "456"},
}
CALIBRATION = {"temperature": 1.5, "n": 200, "loss_before": 2.0, "loss_after": 1.9}
HISTORY = {
    "epoch": [1, 2],
    "image_size": [16, 32],
    "loss": [4.0, 3.0],
    "accuracy": [0.1, 0.2],
    "val_loss": [4.1, 3.2],
    "val_accuracy": [0.1, 0.2],
    "seconds": [60.0, 120.0],
}


@pytest.fixture(scope="module")
def subsets(prepared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("subsets") / "test_subsets"
    write_subsets(prepared.table, {}, folder, folder)
    return folder


def write_predicted(path, archive, labels, right, target="fine"):
    """Predictions of the 200 test images: sure of the true class where `right`, else of the next one."""
    classes = {"fine": 100, "coarse": 20}[target]
    probabilities = np.full((len(labels), classes), 0.001, np.float32)
    probabilities[np.arange(len(labels)), np.where(right, labels, (labels + 1) % classes)] = (
        1.001 - classes / 1000
    )
    columns = {
        "row_id": pa.array(np.arange(1000, 1000 + len(labels), dtype=np.int32)),
        f"{target}_label": pa.array(labels),
        **dict.fromkeys(
            ("probabilities", "mirrored"),
            pa.FixedSizeListArray.from_arrays(pa.array(probabilities.ravel()), classes),
        ),
    }
    write_predictions(
        pa.table(columns).replace_schema_metadata(
            {"archive_sha256": archive, "model_sha256": "weights"}
        ),
        path,
    )


def write_model(folder, **provenance):
    folder.mkdir()
    (folder / "provenance.json").write_text(json.dumps(PROVENANCE | provenance))
    (folder / "calibration.json").write_text(json.dumps(CALIBRATION))
    pd.DataFrame(HISTORY).to_csv(folder / "history.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def classes(prepared):
    return Classes.of(read_table(prepared.table), "fine")


@pytest.fixture(scope="module")
def labels(prepared):
    return read_table(prepared.table)["fine_label"].to_numpy()[1000:]


def inputs_in(folder, prepared, subsets, labels, right, **provenance):
    """Predictions of the test split and a model's folder."""
    write_predicted(
        folder / "predictions.parquet", archive_of(read_table(prepared.table)), labels, right
    )
    return Inputs(
        folder / "predictions.parquet",
        write_model(folder / "model", **provenance),
        prepared.table,
        subsets,
    )


@pytest.fixture
def inputs(prepared, subsets, labels, tmp_path):
    """Of a model that is right three times in four."""
    return inputs_in(tmp_path, prepared, subsets, labels, np.arange(200) % 4 > 0)


@pytest.fixture(scope="module")
def made(prepared, subsets, labels, tmp_path_factory):
    """The report on what `inputs` holds, for tests that only look at it."""
    folder = tmp_path_factory.mktemp("made")
    write_report(
        "some_model",
        inputs_in(folder, prepared, subsets, labels, np.arange(200) % 4 > 0),
        folder / "report",
    )
    return folder / "report"


@pytest.fixture
def report(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "report"))


def files_of(folder):
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


def test_a_whole_report(report):
    tables = (
        "classes",
        "confusion_coarse",
        "confusion_fine",
        "most_confused",
        "reliability",
        "risk_coverage",
        "superclasses",
    )
    parts = [
        "README.md",
        "confusions.csv",
        "history.csv",
        "index.html",
        "metrics.json",
        "provenance.json",
    ]
    assert files_of(report) == sorted(
        [
            *parts,
            *(f"tables/{name}.csv" for name in tables),
            *(f"plots/{name}.png" for name in PICTURES),
        ],
    )
    metrics = json.loads((report / "metrics.json").read_text())
    assert (metrics["n"], metrics["top1"]) == (200, 0.75)
    assert metrics["top1_low"] < 0.75 < metrics["top1_high"]
    assert metrics["no_duplicates_n"] <= 200
    assert metrics["temperature"] == 1.5
    assert metrics["ece15"] == pytest.approx(0.901 - 0.75, abs=1e-6)
    scaled = 0.901 ** (1 / 1.5) / (0.901 ** (1 / 1.5) + 99 * 0.001 ** (1 / 1.5))
    assert metrics["ece15_scaled"] == pytest.approx(0.75 - scaled, abs=1e-5)
    assert (
        pd.read_csv(report / "tables" / "confusion_coarse.csv", index_col=0).to_numpy().sum() == 200
    )
    assert len(pd.read_csv(report / "confusions.csv")) == 200
    assert all(check.passed for check in check_report(report, floor=0.75))


def test_the_page_needs_nothing_else_and_owns_up_to_generated_images(report):
    page = (report / "index.html").read_text()
    assert "Generated images, not CIFAR-100" in page
    assert not re.findall(r"src=\"(?!data:)", page)
    assert re.findall(r"href=\"(.+?)\"", page) == [
        "../../leaderboard/index.html",
        "../../test_subsets/contact_sheet.png",
    ]
    assert "://" not in page
    assert page.count('<img alt="') == page.count("<img") == len(PICTURES)
    assert "75.00 %" in page


def test_a_page_of_real_images_does_not_say_generated(inputs, tmp_path):
    (inputs.model / "provenance.json").write_text(json.dumps(PROVENANCE | {"generated": False}))
    write_report("some_model", inputs, tmp_path / "real")
    for name in ("index.html", "README.md"):
        assert "enerated images" not in (tmp_path / "real" / name).read_text()


def test_a_model_without_mistakes_has_a_report(prepared, subsets, labels, tmp_path):
    metrics = write_report(
        "sure",
        inputs_in(tmp_path, prepared, subsets, labels, np.ones(200, bool)),
        tmp_path / "report",
    )
    assert (metrics["top1"], metrics["aurc"]) == (1, 0)
    assert all(check.passed for check in check_report(tmp_path / "report", floor=1.0))


def test_the_model_card_is_one_as_hugging_face_reads_it(report):
    _, front, body = (report / "README.md").read_text().split("---\n", 2)
    card = yaml.safe_load(front)
    (entry,) = card["model-index"]
    assert (card["library_name"], card["pipeline_tag"], entry["name"]) == (
        "keras",
        "image-classification",
        "some_model",
    )
    assert {metric["name"]: metric["value"] for metric in entry["results"][0]["metrics"]}[
        "top-1 accuracy"
    ] == 0.75
    assert body.startswith("\n# some_model")
    assert "  - " not in body


def test_the_same_input_gives_the_same_bytes(inputs, report, tmp_path):
    write_report("some_model", inputs, tmp_path / "again")
    assert all(
        (report / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
        for name in files_of(report)
    )


def test_an_incomplete_report_is_found(report):
    (report / "plots" / "curves.png").unlink()
    complete, _ = check_report(report, floor=0.0)
    assert not complete.passed
    assert complete.details == {"missing": ["plots/curves.png"]}


def test_a_model_below_its_floor_is_refused_by_the_check_and_by_the_leaderboard(
    report, inputs, tmp_path
):
    complete, floor = check_report(report, floor=0.8)
    assert complete.passed
    assert not floor.passed
    assert floor.details == {"top1": 0.75, "floor": 0.8}
    with pytest.raises(
        PipelineError,
        match=r"'a' is refused: .* of 75.00% is below the floor of 80.00% .* profile 'smoke'",
    ):
        write_leaderboard({"a": Entry(report, inputs.predictions, 0.8)}, {}, tmp_path / "board")
    assert not (tmp_path / "board").exists()


def test_predictions_of_another_table_are_refused(inputs, tmp_path, make_archive, content):
    labels = [(label + 1) % 100 for label in content["test"][b"fine_labels"]]
    other = build_table(
        make_archive(
            test={b"fine_labels": labels, b"coarse_labels": [label % 20 for label in labels]}
        )
    )
    write_table(other, tmp_path / "other.parquet")
    with pytest.raises(PipelineError, match="was not made from"):
        write_report(
            "some_model",
            Inputs(inputs.predictions, inputs.model, tmp_path / "other.parquet", inputs.subsets),
            tmp_path / "refused",
        )
    assert not (tmp_path / "refused").exists()


def test_predictions_of_a_part_are_refused(inputs, labels, tmp_path):
    write_predicted(
        inputs.predictions, archive_of(read_table(inputs.table)), labels[:150], np.ones(150, bool)
    )
    with pytest.raises(PipelineError, match="made from another test split"):
        write_report("some_model", inputs, tmp_path / "refused")


@pytest.mark.parametrize("missing", ["provenance.json", "calibration.json", "history.csv"])
def test_a_model_without_one_of_its_files_is_one_message(inputs, tmp_path, missing):
    (inputs.model / missing).unlink()
    with pytest.raises(PipelineError, match=f"{missing} is missing; materialize"):
        write_report("some_model", inputs, tmp_path / "refused")


def test_a_model_of_an_older_release_is_one_message(inputs, tmp_path):
    old = {key: value for key, value in PROVENANCE.items() if key != "hardware"}
    (inputs.model / "provenance.json").write_text(json.dumps(old))
    with pytest.raises(
        PipelineError, match=r"has no hardware: an older release wrote it; materialize"
    ):
        write_report("some_model", inputs, tmp_path / "refused")


def test_predictions_of_another_model_are_refused(inputs, tmp_path):
    (inputs.model / "provenance.json").write_text(
        json.dumps(PROVENANCE | {"model_sha256": "other"})
    )
    with pytest.raises(
        PipelineError, match=r"are of another model than .*; materialize the predictions again"
    ):
        write_report("some_model", inputs, tmp_path / "refused")


@pytest.fixture(scope="module")
def coarse_labels(prepared):
    return read_table(prepared.table)["coarse_label"].to_numpy()[1000:]


def test_a_report_on_superclasses(inputs, coarse_labels, tmp_path):
    right = np.arange(200) % 4 > 0
    write_predicted(
        inputs.predictions, archive_of(read_table(inputs.table)), coarse_labels, right, "coarse"
    )
    metrics = write_report("some_model", inputs, tmp_path / "report")
    assert (metrics["classes"], metrics["top1"], metrics["coarse_top1"]) == (20, 0.75, 0.75)
    written = files_of(tmp_path / "report")
    assert "tables/confusion_coarse.csv" in written
    assert not {
        "tables/confusion_fine.csv",
        "tables/superclasses.csv",
        "plots/confusion_fine.png",
    } & set(written)
    page, card = ((tmp_path / "report" / name).read_text() for name in ("index.html", "README.md"))
    assert "20 superclasses, profile smoke" in page
    assert "superclass accuracy" not in page + card
    assert "logits of the\n20 superclasses" in card
    assert page.count('<img alt="') == len(PICTURES) - 1
    assert all(check.passed for check in check_report(tmp_path / "report", floor=0.7))
    assert len(pd.read_csv(tmp_path / "report" / "tables" / "classes.csv")) == 20


def test_a_model_of_all_training_images_says_that_nothing_was_left_to_choose_by(
    prepared, subsets, labels, tmp_path
):
    right = np.arange(200) % 4 > 0
    inputs = inputs_in(tmp_path, prepared, subsets, labels, right, validation_images=0)
    (inputs.model / "calibration.json").write_text(
        json.dumps({"temperature": 1.0, "n": 0, "loss_before": None, "loss_after": None})
    )
    history = pd.DataFrame(HISTORY | {"val_loss": [None, None], "val_accuracy": [None, None]})
    history.to_csv(inputs.model / "history.csv", index=False)
    metrics = write_report("some_model", inputs, tmp_path / "report")
    assert not {"temperature", "nll_scaled", "brier_scaled", "ece15_scaled"} & set(metrics)
    assert set(pd.read_csv(tmp_path / "report" / "tables" / "reliability.csv")["model"]) == {
        "as trained"
    }
    page, card = (
        " ".join((tmp_path / "report" / name).read_text().split())
        for name in ("index.html", "README.md")
    )
    assert "No temperature was fitted" in page
    assert "scaled" not in page.split("<h2>How it was made")[0]
    height, width, _ = imread(tmp_path / "report" / "plots" / "reliability.png").shape
    assert width < height  # one diagram, not that of the temperature beside it
    assert [text.get_text() for text in plot_curves(history).axes[0].get_legend().get_texts()] == [
        "training"
    ]
    assert "nothing: the last of 2 epochs" in page
    assert "the last; no image was left to choose by" in card
    assert "No temperature was fitted" in card
    assert "softmax(model.predict(images)) ```" in card


def test_labels_of_another_target_are_refused(inputs, labels, tmp_path):
    write_predicted(
        inputs.predictions,
        archive_of(read_table(inputs.table)),
        labels % 19,
        np.ones(200, bool),
        "coarse",
    )
    with pytest.raises(PipelineError, match="was not made from"):
        write_report("some_model", inputs, tmp_path / "refused")


def entry_of(folder, classes, inputs, labels, right, *, temperature=1.5, **provenance):
    """What the leaderboard reads of a model; its report without pictures, which take seconds."""
    write_model(folder, **provenance)
    archive = archive_of(read_table(inputs.table))
    write_predicted(
        folder / "predictions.parquet",
        archive,
        labels,
        right,
        "fine" if len(classes.names) == 100 else "coarse",
    )
    predicted = Predictions.read(folder / "predictions.parquet")
    metrics = evaluate(
        predicted, classes, read_subsets(inputs.subsets, predicted.row_id, archive), temperature
    ).metrics
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return Entry(folder, folder / "predictions.parquet", 0.0)


def recipe_with(**changes):
    return PROVENANCE["recipe"] | changes


def test_a_leaderboard_orders_models_and_compares_them_in_pairs(classes, inputs, labels, tmp_path):
    number = np.arange(200)
    entries = {
        "worse": entry_of(
            tmp_path / "worse", classes, inputs, labels, number % 4 > 0, temperature=None
        ),
        "better": entry_of(
            tmp_path / "better",
            classes,
            inputs,
            labels,
            number % 10 > 0,
            recipe=recipe_with(image_size=64),
        ),
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
    assert "0.151, –" in page  # of the model without a temperature
    assert page.count('<img alt="') == page.count("<img") == 3


def test_ensembles_stand_on_the_leaderboard_beside_their_best_member(
    classes, inputs, labels, tmp_path
):
    number = np.arange(200)
    entries = {
        name: entry_of(
            tmp_path / name,
            classes,
            inputs,
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
    assert "most; with mirror images" in page


def test_models_of_the_superclasses_stand_apart(classes, inputs, labels, coarse_labels, tmp_path):
    coarse = Classes.of(read_table(inputs.table), "coarse")
    number = np.arange(200)
    entries = {
        "coarse": entry_of(tmp_path / "coarse", coarse, inputs, coarse_labels, number % 10 > 0),
        "fine": entry_of(
            tmp_path / "fine",
            classes,
            inputs,
            labels,
            number % 4 > 0,
            recipe=recipe_with(image_size=64),
        ),
        "worse": entry_of(
            tmp_path / "worse",
            classes,
            inputs,
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


def test_seeds_of_a_recipe_are_one_entry(classes, inputs, labels, tmp_path):
    number = np.arange(200)
    entries = {
        f"seed{seed}": entry_of(
            tmp_path / f"seed{seed}",
            classes,
            inputs,
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


def test_what_cannot_be_compared_is_refused(report, inputs, tmp_path):
    first = Entry(report, inputs.predictions, 0.0)

    def other(name, **provenance):
        folder = shutil.copytree(report, tmp_path / name)
        (folder / "provenance.json").write_text(json.dumps(PROVENANCE | provenance))
        return Entry(folder, inputs.predictions, 0.0)

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
            {"a": first, "b": Entry(tmp_path / "none", inputs.predictions, 0.0)},
            {},
            tmp_path / "board",
        )


def test_top_is_in_the_order_of_predicted():
    probabilities = np.array([[0.2, 0.3, 0.3, 0.2], [0.25, 0.25, 0.25, 0.25]])
    predictions = Predictions(
        np.arange(2), np.zeros(2, int), probabilities, probabilities, "archive", "model"
    )
    assert predictions.top(2).tolist() == [[1, 2], [0, 1]]
    assert predictions.predicted.tolist() == [1, 0]
