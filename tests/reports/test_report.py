import json
import os
import re
import subprocess
import sys
from dataclasses import astuple

import numpy as np
import pandas as pd
import pytest
import yaml
from matplotlib.image import imread

from cifar_pipeline.dataset.build import build_table, write_table
from cifar_pipeline.dataset.splits import archive_of
from cifar_pipeline.dataset.table import read_table, save_table
from cifar_pipeline.drawing.plots import plot_curves
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.reports.files import PARTS
from cifar_pipeline.reports.report import PICTURES, Inputs, check_report, write_report
from tests.reports.artefacts import (
    HISTORY,
    PROVENANCE,
    THREE_IN_FOUR,
    inputs_in,
    write_predicted,
)
from tests.workspaces import CHECKOUT

TABLES = (
    "classes",
    "confusion_coarse",
    "confusion_fine",
    "most_confused",
    "reliability",
    "risk_coverage",
    "superclasses",
)


def files_of(folder):
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


def words_of(folder, *names):
    """Texts of a report in which every run of white space is one space."""
    return [" ".join((folder / name).read_text(encoding="utf-8").split()) for name in names]


def test_a_whole_report(made):
    assert sorted(path.name for path in made.iterdir()) == sorted(PARTS)
    assert files_of(made) == sorted(
        [
            *(name for name in PARTS if "." in name),
            *(f"tables/{name}.csv" for name in TABLES),
            *(f"plots/{name}.png" for name in PICTURES),
        ],
    )
    metrics = json.loads((made / "metrics.json").read_text())
    assert (metrics["n"], metrics["top1"], metrics["images"]) == (200, 0.75, "generated")
    assert metrics["top1_low"] < 0.75 < metrics["top1_high"]
    assert metrics["no_duplicates_n"] <= 200
    assert metrics["temperature"] == 1.5
    assert metrics["ece15"] == pytest.approx(0.901 - 0.75, rel=1e-5)
    scaled = 0.901 ** (1 / 1.5) / (0.901 ** (1 / 1.5) + 99 * 0.001 ** (1 / 1.5))
    assert metrics["ece15_scaled"] == pytest.approx(0.75 - scaled, rel=1e-4)
    assert (
        pd.read_csv(made / "tables" / "confusion_coarse.csv", index_col=0).to_numpy().sum() == 200
    )
    assert len(pd.read_csv(made / "confusions.csv")) == 200
    assert all(check.passed for check in check_report(made, floor=0.75))


def test_the_page_needs_nothing_else_and_owns_up_to_generated_images(made):
    page = (made / "index.html").read_text(encoding="utf-8")
    assert "Generated images, not CIFAR-100" in page
    assert not re.findall(r"src=\"(?!data:)", page)
    links = re.findall(r"href=\"(.+?)\"", page)
    assert links[:1] == ["../../leaderboard/index.html"]
    assert set(links[1:]) == {
        "../../test_subsets/contact_sheet.png",
        "README.md",
        *(f"plots/{name}.png" for name in PICTURES),
    }
    assert "://" not in page
    assert page.count('<img alt="') == page.count("<img") == len(PICTURES)


def test_shares_are_percentages_in_one_form(made):
    page, card = words_of(made, "index.html", "README.md")
    assert "<b>75.00%</b><small>95% interval 68.57% to 80.49%</small>" in page
    assert "calibration error<b>15.10%</b>" in page
    assert "| top-1 accuracy | 75.00% | 68.57% to 80.49% |" in card
    for text in (re.sub(r'"data:.+?"', "", page), card):
        assert not re.search(r"\d %", text)


def test_the_model_card_is_one_as_hugging_face_reads_it(made):
    _, front, body = (made / "README.md").read_text(encoding="utf-8").split("---\n", 2)
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


HOSTILE = """
import sys
from pathlib import Path
import pandas as pd
pd.set_option("display.precision", 1, "display.max_colwidth", 5, "display.max_rows", 3)
from cifar_pipeline.reports.report import Inputs, write_report
*inputs, target = map(Path, sys.argv[1:])
write_report("some_model", Inputs(*inputs), target)
"""
MATPLOTLIBRC = """
axes.facecolor: black
axes.formatter.use_locale: True
figure.dpi: 40
font.family: serif
font.size: 20
image.cmap: jet
lines.linewidth: 9
savefig.bbox: tight
savefig.dpi: 30
savefig.facecolor: green
text.usetex: True
"""


def test_the_same_input_gives_the_same_bytes_on_a_machine_with_other_settings(
    shared_inputs, made, tmp_path
):
    """Personal configuration of matplotlib and pandas, another time zone, an ASCII locale."""
    (tmp_path / "matplotlibrc").write_text(MATPLOTLIBRC)
    hostile = {
        "MATPLOTLIBRC": str(tmp_path / "matplotlibrc"),
        "MPLCONFIGDIR": str(tmp_path),
        "MPLBACKEND": "none that exists",
        "HOME": str(tmp_path),
        "TZ": "Pacific/Kiritimati",
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONPATH": str(CHECKOUT),
        "PATH": os.environ["PATH"],
    }
    paths = (*astuple(shared_inputs), tmp_path / "again")
    done = subprocess.run(
        [sys.executable, "-c", HOSTILE, *map(str, paths)],
        env=hostile,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    different = [
        name
        for name in files_of(made)
        if (made / name).read_bytes() != (tmp_path / "again" / name).read_bytes()
    ]
    assert different == []


def test_an_incomplete_report_is_found(report):
    (report / "plots" / "curves.png").unlink()
    complete, floor = check_report(report, floor=0.0)
    assert not complete.passed
    assert not floor.passed
    assert complete.details == {"missing": ["plots/curves.png"]}
    assert complete.found == f"plots/curves.png missing or empty in {report}"
    assert complete.repair == "Materialize the report again."


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"top1": 0.9, "top5": 0.8}, "top1_low ≤ top1 ≤ top5"),
        ({"nll": float("inf")}, "nll is inf"),
        ({"coarse_top1": 0.1}, "top1 is above coarse_top1"),
    ],
)
def test_figures_that_are_impossible_are_named(report, change, found):
    path = report / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    complete, _ = check_report(report, floor=0.0)
    assert not complete.passed
    assert found in complete.found


def test_a_model_below_its_floor_has_a_report_that_says_how_far(made):
    complete, floor = check_report(made, floor=0.8)
    assert complete.passed
    assert not floor.passed
    assert floor.details == {"top1": 0.75, "floor": 0.8}
    assert (floor.found, floor.limit) == ("top-1 accuracy of 75.00%", "at least 80.00%")


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


def test_names_with_punctuation_are_shown_as_they_are(prepared, subsets, labels, tmp_path):
    """`$...$` is a formula for matplotlib; commas, quotes and bars part things elsewhere."""
    odd = ["$\\frac{", 'a "b", |c|', "<b>_x_</b>"]
    table = read_table(prepared.table)
    names = odd + json.loads(table.schema.metadata[b"fine_names"])[len(odd) :]
    metadata = table.schema.metadata | {b"fine_names": json.dumps(names)}
    save_table(table.replace_schema_metadata(metadata), tmp_path / "odd.parquet")
    wrong = np.isin(labels, (0, 1, 2), invert=True)
    inputs = inputs_in(tmp_path, tmp_path / "odd.parquet", subsets, labels, wrong)
    write_report("some_model", inputs, tmp_path / "report")
    card = (tmp_path / "report/README.md").read_text(encoding="utf-8")
    assert list(yaml.safe_load(card.split("---\n")[1])["id2label"].values())[:3] == odd
    assert "\\$\\\\frac{" in card
    assert r'a "b", \|c\|' in card
    assert r"\<b\>\_x\_\</b\>" in card


@pytest.mark.parametrize("missing", ["provenance.json", "calibration.json", "history.csv"])
def test_a_model_without_one_of_its_files_is_one_message(inputs, tmp_path, missing):
    (inputs.model / missing).unlink()
    with pytest.raises(PipelineError, match=f"{missing} is missing; materialize"):
        write_report("some_model", inputs, tmp_path / "refused")


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (b"", r"history.csv is damaged \(No columns"),
        (b"epoch,loss\n", "history.csv has no accuracy, image_size"),
        (b"epoch,image_size,loss,accuracy,val_loss,val_accuracy,seconds\n", "damaged .*no rows"),
        (b"\xff\xfe\x00", "history.csv is damaged"),
    ],
)
def test_a_damaged_history_is_one_message(inputs, tmp_path, written, message):
    (inputs.model / "history.csv").write_bytes(written)
    with pytest.raises(PipelineError, match=message):
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
        PipelineError, match=r"belongs to another model than .*; materialize the predictions again"
    ):
        write_report("some_model", inputs, tmp_path / "refused")


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


def test_a_report_on_superclasses_without_a_mistake(prepared, subsets, coarse_labels, tmp_path):
    right = np.ones(200, bool)
    inputs = inputs_in(tmp_path, prepared.table, subsets, coarse_labels, right, target="coarse")
    metrics = write_report("some_model", inputs, tmp_path / "report")
    assert (metrics["classes"], metrics["top1"], metrics["coarse_top1"]) == (20, 1, 1)
    assert metrics["aurc"] == 0
    written = files_of(tmp_path / "report")
    assert "tables/confusion_coarse.csv" in written
    assert not {
        "tables/confusion_fine.csv",
        "tables/superclasses.csv",
        "plots/confusion_fine.png",
    } & set(written)
    page, card = words_of(tmp_path / "report", "index.html", "README.md")
    assert "20 superclasses, profile smoke" in page
    assert "superclass accuracy" not in page + card
    assert "logits of the 20 superclasses" in card
    assert "No image was classified wrongly." in card
    assert page.count('<img alt="') == len(PICTURES) - 1
    assert all(check.passed for check in check_report(tmp_path / "report", floor=1.0))
    assert len(pd.read_csv(tmp_path / "report" / "tables" / "classes.csv")) == 20


def test_a_model_of_all_training_images_of_the_real_data_set(prepared, subsets, labels, tmp_path):
    """No image was left to choose by or to fit a temperature on, and nothing is generated."""
    changes = {"validation_images": 0, "generated": False}
    inputs = inputs_in(tmp_path, prepared.table, subsets, labels, THREE_IN_FOUR, **changes)
    (inputs.model / "calibration.json").write_text(
        json.dumps({"temperature": 1.0, "n": 0, "loss_before": None, "loss_after": None})
    )
    history = pd.DataFrame(HISTORY | {"val_loss": [None, None], "val_accuracy": [None, None]})
    history.to_csv(inputs.model / "history.csv", index=False)
    metrics = write_report("some_model", inputs, tmp_path / "report")
    assert not {"temperature", "nll_scaled", "brier_scaled", "ece15_scaled"} & set(metrics)
    assert metrics["images"] == "CIFAR-100"
    assert set(pd.read_csv(tmp_path / "report" / "tables" / "reliability.csv")["model"]) == {
        "as trained"
    }
    page, card = words_of(tmp_path / "report", "index.html", "README.md")
    assert "enerated images" not in page + card
    assert "No temperature was fitted" in page
    assert "scaled" not in page.split("<h2>How it was made")[0].split("</style>")[1]
    height, width, _ = imread(tmp_path / "report" / "plots" / "reliability.png").shape
    assert width < height  # one diagram, without that of the temperature beside it
    assert [text.get_text() for text in plot_curves(history).axes[0].get_legend().get_texts()] == [
        "training"
    ]
    assert "nothing: they are those of the last of 2 epochs" in page
    assert "the last one, because no image was left to choose by" in card
    assert "No temperature was fitted" in card
