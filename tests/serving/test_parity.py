"""One preprocessing: the same images, asked in every way that the product has, get the same answer.

A new way to ask is a function in WAYS.
"""

import io
import json
import os
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
import requests
from PIL import Image
from streamlit.testing.v1 import AppTest

from cifar_pipeline.dataset.build import build_table, write_table
from cifar_pipeline.dataset.generated import legacy_pickle, members
from cifar_pipeline.dataset.packed import write_archive
from cifar_pipeline.dataset.splits import build_splits, write_splits
from cifar_pipeline.dataset.table import read_table
from cifar_pipeline.evaluation.predictions import predict_test, write_predictions
from cifar_pipeline.inputs.batches import load_images
from cifar_pipeline.models.saved import load_labels, load_model
from cifar_pipeline.paths import Workspace
from cifar_pipeline.serving.export import export_model
from cifar_pipeline.serving.exported import ExportedModel
from cifar_pipeline.serving.photographs import read_photograph
from cifar_pipeline.serving.predictor import TOP, Predictor
from cifar_pipeline.settings.data import SplitSettings
from tests.serving.networks import save_model
from tests.serving.servers import running
from tests.workspaces import CHECKOUT

TEMPERATURE = 1.5
LIMIT = 1e-4
"""What an export promises of probabilities."""


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """A workspace with a model and its export, and the 1,000 test images of its data."""
    home = Workspace(tmp_path_factory.mktemp("asked"))
    content = members(10, 10, seed=0)
    pickles = {name: legacy_pickle(member) for name, member in content.items()}
    write_archive(home.archive, pickles)
    table = build_table(home.archive)
    write_table(table, home.table)
    settings = SplitSettings(validation_fraction=0.2, seed=123)
    write_splits(build_splits(table, settings), home.splits)
    folder = home.model("cnn9")
    save_model(folder, read_table(home.table), temperature=TEMPERATURE)
    export_model("cnn9", folder, home.table, home.splits, home.export("cnn9"))
    return home, load_images(home.table, home.splits, "test").pixels


@pytest.fixture(scope="module")
def expected(asked):
    """As evaluation during a training has it: Keras' `predict`, and the stored temperature."""
    home, images = asked
    return calibrated(load_model(home.model("cnn9")).predict(images, verbose=0))


def calibrated(logits):
    """Probabilities (N, classes), computed apart from the product, in double precision."""
    scaled = np.asarray(logits, np.float64) / TEMPERATURE
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def png(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def by_the_predictions(home, images):
    """The stage's file, which holds probabilities before calibration."""
    path = home.predictions("cnn9")
    write_predictions(predict_test(home.model("cnn9"), home.table, home.splits), path)
    rows = np.stack(pq.read_table(path)["probabilities"].to_numpy())
    return calibrated(np.log(rows.astype(np.float64)))


def by_the_exported_file(home, images):
    answers = ExportedModel(home.export("cnn9") / "model.onnx").answers(images)
    return np.concatenate([answer.probabilities for answer in answers])


def by_photographs(home, images):
    """Files that hold the images, decoded."""
    pixels = [read_photograph(png(image)).pixels for image in images]
    return by_the_exported_file(home, np.stack(pixels))


def by_the_command(home, images):
    folder = home.root / "photographs"
    folder.mkdir()
    for number, image in enumerate(images):
        (folder / f"{number:04}.png").write_bytes(png(image))
    done = subprocess.run(
        [sys.executable, "-m", "cifar_pipeline", "predict", folder, "--json", "--top", "100"],
        cwd=CHECKOUT,
        env={**os.environ, "CIFAR_ROOT": str(home.root)},
        capture_output=True,
        text=True,
        check=True,
    )
    return read_documents(home, map(json.loads, done.stdout.splitlines()))


def by_the_endpoint(home, images):
    documents = []
    with running(home.export("cnn9") / "model.onnx") as address:
        for start in range(0, len(images), 50):
            files = [("files", png(image)) for image in images[start : start + 50]]
            reply = requests.post(f"{address}/predict?top=100", files=files, timeout=60)
            documents += reply.json()
    return read_documents(home, documents)


def by_the_page(home, images):
    """The function that the page asks, in a session; it shows the five likeliest classes alone."""

    def session(file, contents):
        import streamlit as st

        from cifar_pipeline.app import loading
        from cifar_pipeline.serving.exported import ExportedModel

        model = ExportedModel(file)
        st.session_state["answers"] = [loading.prediction(model, content) for content in contents]

    file = home.export("cnn9") / "model.onnx"
    contents = [png(image) for image in images]
    page = AppTest.from_function(session, args=(file, contents), default_timeout=120).run()
    assert not page.exception
    predictor = Predictor(ExportedModel(file))
    return read_documents(home, map(predictor.document, page.session_state["answers"]))


def read_documents(home, documents):
    """Probabilities (N, classes) of answers as JSON; NaN for classes that they leave out."""
    places = {name: place for place, name in enumerate(load_labels(home.model("cnn9")).classes)}
    rows = []
    for document in documents:
        assert document["error"] is None
        row = np.full(len(places), np.nan)
        for guess in document["top"]:
            row[places[guess["class"]]] = guess["probability"]
        rows.append(row)
    return np.stack(rows)


WAYS = (
    *(by_the_predictions, by_the_exported_file, by_photographs),
    *(by_the_command, by_the_endpoint, by_the_page),
)


@pytest.mark.numeric
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_every_way_to_ask_gives_the_same_probabilities(asked, expected, way):
    home, images = asked
    assert len(images) == 1000
    found = way(home, images)
    told = np.isfinite(found)
    assert (told.sum(axis=1) >= TOP).all()
    assert np.abs(found - expected)[told].max() < LIMIT
    assert np.array_equal(np.nanargmax(found, axis=1), expected.argmax(axis=1))


def test_the_answers_are_worth_comparing(expected):
    """They differ from image to image, by far more than the limit."""
    assert len(set(expected.argmax(axis=1).tolist())) > 20
    assert expected.max(axis=1).std() > 1000 * LIMIT
