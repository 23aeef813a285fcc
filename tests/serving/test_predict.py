"""`cifar predict`, from files, folders, patterns and standard input to rows."""

import csv
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from PIL import Image

from cifar_pipeline.artifacts import write_json
from cifar_pipeline.cli import main
from cifar_pipeline.paths import Workspace
from cifar_pipeline.serving.choice import choose_model
from cifar_pipeline.serving.exported import ExportedModel
from cifar_pipeline.serving.files import find_photographs
from cifar_pipeline.serving.photographs import read_photograph
from cifar_pipeline.serving.prediction_table import FOLDER_SCHEMA, SCHEMA, predict_folder
from cifar_pipeline.serving.predictor import COLUMNS, Predictor, Source, with_progress
from tests.serving.hostile import encoded, picture

HEAVY = {"tensorflow", "keras", "dagster", "pandas", "matplotlib", "pyarrow", "scipy", "pydantic"}


@pytest.fixture
def predict(served, monkeypatch):
    monkeypatch.setenv("CIFAR_ROOT", str(served.root))
    return lambda *arguments, **options: CliRunner().invoke(
        main, ["predict", *map(str, arguments)], **options
    )


@pytest.fixture
def album(tmp_path):
    """Three photographs, one of them broken and one in a subfolder, and a text."""
    (tmp_path / "album" / "more").mkdir(parents=True)
    picture(50, 40).save(tmp_path / "album" / "a.jpg")
    (tmp_path / "album" / "broken.png").write_bytes(b"nothing")
    picture(30, 70).save(tmp_path / "album" / "more" / "c.PNG")
    (tmp_path / "album" / "notes.txt").write_text("not a photograph")
    (tmp_path / "album" / ".hidden.png").write_text("not one either")
    return tmp_path / "album"


def test_a_photograph_has_its_likeliest_classes_in_order(predict, album, exported):
    done = predict(album / "a.jpg", "--json", "--top", 7)
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    model = ExportedModel(exported)
    photograph = read_photograph(album / "a.jpg")
    probabilities = model.answer(photograph.pixels[None]).probabilities[0]
    assert [guess["rank"] for guess in said["top"]] == list(range(1, 8))
    assert [guess["probability"] for guess in said["top"]] == pytest.approx(
        sorted(probabilities.tolist(), reverse=True)[:7], rel=1e-5
    )
    best = int(probabilities.argmax())
    superclass = model.labels.superclasses[model.labels.superclass_of[best]]
    assert said["top"][0]["class"] == model.labels.classes[best]
    assert said["top"][0]["superclass"] == superclass
    assert said["sha256"] == hashlib.sha256((album / "a.jpg").read_bytes()).hexdigest()
    assert said["model_sha256"] == hashlib.sha256(exported.read_bytes()).hexdigest()
    assert (said["model"], said["width"], said["height"]) == ("cnn9", 50, 40)
    assert said["none_of_these"] in (True, False)
    assert "model cnn9, the only one that is exported" in done.stderr


def test_in_a_folder_a_broken_file_costs_one_row(predict, album):
    done = predict(album, "--csv", "--top", 3)
    assert done.exit_code == 1
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert tuple(rows[0]) == COLUMNS
    names = [os.path.relpath(row["file"], album) for row in rows]
    assert names == ["a.jpg"] * 3 + ["broken.png"] + ["more/c.PNG"] * 3
    broken = rows[3]
    assert "no image" in broken["error"]
    assert broken["probability"] == ""
    assert broken["sha256"] == hashlib.sha256(b"nothing").hexdigest()
    assert all(0 <= float(row["probability"]) <= 1 for row in rows if not row["error"])
    assert "left out because they are not images: 1" in done.stderr
    assert "1 of 3 files could not be read" in done.stderr


def test_the_terminal_shows_class_superclass_and_probability(predict, album, exported):
    done = predict(album / "more", album / "nowhere.jpg")
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert lines[0].endswith("c.PNG  30×70 PNG")
    guesses = [line.split() for line in lines if "generated_" in line]
    assert len(guesses) == 5
    assert all(guess[0].endswith("%") and "group" in guess[2] for guess in guesses)
    assert "there is no such file" in lines[-1]


def test_rows_go_into_a_parquet_file(predict, album, tmp_path):
    target = tmp_path / "rows.parquet"
    done = predict(album, "--parquet", target)
    assert done.exit_code == 1
    table = pq.read_table(target)
    assert table.schema.equals(SCHEMA)
    assert table.num_rows == 11
    assert not np.isnan(table["probability"].drop_null().to_numpy()).any()
    assert done.stdout == ""


def test_a_picture_shows_what_the_network_sees(predict, album, tmp_path):
    target = tmp_path / "shown.png"
    done = predict(album, "--plot", target)
    assert done.exit_code == 1  # of the broken one
    with Image.open(target) as drawn:
        assert drawn.width > 1000
        assert len(drawn.convert("RGB").getcolors(1_000_000)) > 1000


def test_standard_input_and_patterns(predict, album, monkeypatch):
    content = encoded(picture(), "JPEG")
    done = predict("-", "--json", input=content)
    assert json.loads(done.stdout)["sha256"] == hashlib.sha256(content).hexdigest()
    monkeypatch.chdir(album)
    named = [source.name for source in find_photographs(["**/*.PNG", "a.jpg", "*.jpg"]).sources]
    assert named == [str(Path("more", "c.PNG")), "a.jpg"]
    picture(9, 9).save(album / "odd[1].png")
    assert [source.name for source in find_photographs(["odd[1].png"]).sources] == ["odd[1].png"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("https://example.org/cat.jpg",), "nothing is fetched; download the photograph"),
        (("a.jpg", "--top", "101"), "tells 100 apart; ask for 1 to 100"),
        (("a.jpg", "--model", "resnet50"), "no exported model 'resnet50'; exported are cnn9"),
        (("-", "-"), "standard input holds one image"),
        ((".",), "there is no image in ."),
    ],
)
def test_mistakes_are_answered_in_a_sentence(predict, arguments, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = predict(*arguments)
    assert done.exit_code == 1
    assert sentence in done.stderr
    assert "Traceback" not in done.output
    assert isinstance(done.exception, SystemExit)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--top", "0"), "0 is not in the range x>=1"),
        (("--json", "--csv"), "both write to standard output; choose one"),
        (("--plot", "shown.jpg"), "let the name end in .png, not 'shown.jpg'"),
    ],
)
def test_options_that_make_no_sense_are_refused(predict, album, options, sentence):
    done = predict(album / "a.jpg", *options)
    assert done.exit_code == 2
    assert sentence in done.stderr


@pytest.mark.parametrize("option", [("--parquet", "rows.parquet"), ("--plot", "shown.png")])
def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    predict, album, tmp_path, option
):
    (tmp_path / "file").touch()
    name, target = option
    done = predict(album / "a.jpg", "--json", name, tmp_path / "file" / target)
    assert done.exit_code == 1
    assert done.stdout == ""
    assert "name another place. Nothing was replaced" in done.stderr


def test_without_an_exported_model_a_command_that_makes_one_is_named(
    predict, tmp_path, monkeypatch
):
    monkeypatch.setenv("CIFAR_ROOT", str(tmp_path))
    assert "`cifar run` trains models, and exports them" in predict("a.jpg").stderr
    (tmp_path / "data/models/mine").mkdir(parents=True)
    (tmp_path / "data/models/mine/history.csv").touch()
    assert "`cifar export mine` exports one of those" in predict("a.jpg").stderr
    assert "`cifar export mine` makes it" in predict("a.jpg", "--model", "mine").stderr


def test_the_best_on_validation_images_answers(tmp_path):
    home = Workspace(tmp_path)
    models = (("weak", 0.3, 100), ("best", 0.5, 100), ("coarse", 0.9, 20), ("final", "", 100))
    for name, accuracy, classes in models:
        home.export(name).mkdir(parents=True)
        (home.export(name) / "model.onnx").touch()
        home.model(name).mkdir(parents=True)
        history = f"epoch,val_accuracy\n1,0.99\n2,{accuracy}\n"
        (home.model(name) / "history.csv").write_text(history)
        (home.model(name) / "provenance.json").write_text('{"best_epoch": 2}')
        labels = {"classes": ["x"] * classes, "superclasses": ["y"] * 20, "superclass_of": []}
        (home.model(name) / "labels.json").write_text(json.dumps(labels))
    choice = choose_model(home, None)
    assert choice.name == "best"
    assert choice.why == "the best of 3 by validation accuracy, 50.0%"
    assert choose_model(home, "weak").name == "weak"


def test_an_export_of_an_earlier_training_or_of_another_model_is_told(
    served, exported, album, tmp_path, monkeypatch
):
    home = Workspace(tmp_path)
    for name in ("cnn9", "cnn"):
        home.export(name).mkdir(parents=True)
        (home.export(name) / "model.onnx").symlink_to(exported)
    shutil.copytree(served.model("cnn9"), home.model("cnn9"))
    monkeypatch.setenv("CIFAR_ROOT", str(tmp_path))

    def warned(name):
        done = CliRunner().invoke(main, ["predict", str(album / "a.jpg"), "--model", name])
        assert done.exit_code == 0, done.output
        return done.stderr

    assert warned("cnn9") == ""
    assert "is the export of another model, cnn9; `cifar export cnn`" in warned("cnn")
    write_json(home.model("cnn9") / "provenance.json", {"model_sha256": "of other weights"})
    assert "cnn9 was trained again after its export" in warned("cnn9")


def test_batches_answer_as_single_photographs_do(exported):
    predictor = Predictor(ExportedModel(exported))
    sources = [
        Source(str(size), encoded(picture(size, size), "PNG") if size % 7 else b"broken")
        for size in range(20, 50)
    ]
    together = list(predictor.predict(sources, batch=8))
    alone = [next(predictor.predict([source])) for source in sources]
    assert [found.source.name for found in together] == [source.name for source in sources]
    for one, other in zip(together, alone, strict=True):
        assert [guess.name for guess in one.guesses] == [guess.name for guess in other.guesses]
        assert (one.error, one.none_of_these) == (other.error, other.none_of_these)
        for first, second in zip(one.guesses, other.guesses, strict=True):
            assert first.probability == pytest.approx(second.probability, rel=1e-4)


COST = f"""
import sys, time
start = time.perf_counter()
from cifar_pipeline.artifacts import write_json
from cifar_pipeline.cli import main
main(sys.argv[1:], standalone_mode=False)
print(time.perf_counter() - start, file=sys.stderr)
heavy = sorted({HEAVY!r} & set(sys.modules))
from tests.serving.cost import peak_megabytes
print(peak_megabytes(), file=sys.stderr)
print(*heavy, file=sys.stderr)
"""


def test_nothing_heavy_is_imported_and_one_photograph_is_answered_at_once(served, album):
    done = subprocess.run(
        [sys.executable, "-c", COST, "predict", str(album / "a.jpg"), "--json"],
        env=os.environ | {"CIFAR_ROOT": str(served.root)},
        capture_output=True,
        text=True,
        check=True,
    )
    *_, seconds, megabytes, heavy = done.stderr.split("\n")[:-1]
    assert heavy == ""
    assert float(megabytes) < 300
    assert float(seconds) < 5  # 0.3 where nothing else runs; benchmarks/results/serving.md


def test_a_folder_becomes_a_table_with_a_row_for_each_image_and_model(album, exported, tmp_path):
    second = tmp_path / "second.onnx"
    second.write_bytes(exported.read_bytes())
    checks, figures = predict_folder(album, [exported, second], tmp_path / "table.parquet")
    table = pq.read_table(tmp_path / "table.parquet")
    assert table.schema.equals(FOLDER_SCHEMA)
    assert table["file"].to_pylist() == ["a.jpg", "broken.png", "more/c.PNG"] * 2
    assert table["error"].is_valid().to_pylist() == [False, True, False] * 2
    assert (figures["photographs"], figures["models"], figures["left_out"]) == (3, 2, 1)
    assert not checks[0].passed
    assert "broken.png: this is no image" in checks[0].found
    for row in table.to_pylist():
        content = (album / row["file"]).read_bytes()
        assert row["sha256"] == hashlib.sha256(content).hexdigest()
        assert row["model_sha256"] == hashlib.sha256(exported.read_bytes()).hexdigest()
        assert len(row["top"] or []) == (0 if row["error"] else 5)
        assert row["class"] == (row["top"][0]["class"] if row["top"] else None)


def test_thousands_of_photographs_are_decoded_a_few_at_a_time(exported):
    """Of all of them at once, the memory would not do."""
    begun = []

    def sources():
        for number in range(300):
            begun.append(number)
            yield Source(str(number), encoded(picture(8, 8), "PNG"))

    predictions = Predictor(ExportedModel(exported)).predict(sources(), batch=10)
    next(predictions)
    assert len(begun) <= 40
    assert sum(1 for _ in predictions) == 299


def test_progress_is_told_when_it_takes_long(exported, monkeypatch, capsys):
    sources = [Source(str(number), encoded(picture(8, 8), "PNG")) for number in range(3)]
    predictor = Predictor(ExportedModel(exported))
    assert len(list(with_progress(predictor.predict(sources), 3))) == 3
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("cifar_pipeline.serving.predictor.LINE_EVERY_S", 0.0)
    list(with_progress(predictor.predict(sources), 3))
    assert "3 of 3 photographs, " in capsys.readouterr().err
    list(with_progress(predictor.predict(sources[:1]), 1))
    assert capsys.readouterr().err == ""
