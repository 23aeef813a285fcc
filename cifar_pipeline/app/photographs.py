"""Photographs of the visitor's, and what one model or two say of them."""

from typing import Any

import numpy as np
import streamlit as st

from cifar_pipeline.app import loading
from cifar_pipeline.drawing.pages import render, words
from cifar_pipeline.drawing.pixels import address, centre_square, with_attention
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.paths import Workspace
from cifar_pipeline.serving.choice import choose_model, exported_models, outdated
from cifar_pipeline.serving.exported import SIDE, ExportedModel
from cifar_pipeline.serving.photographs import STRICT
from cifar_pipeline.serving.predictor import Prediction

AT_ONCE = 12
"""Photographs that are shown of one upload."""
SIMILAR = 6
FROM_FILES, FROM_CAMERA = "Files", "Camera"
NOTHING_EXPORTED = (
    "No model is exported yet. Train one with `cifar run`, export it with `cifar export NAME`, and "
    "reload this page."
)
KEPT_NOWHERE = "Photographs are kept in memory alone, and forgotten when this page is closed."


def show() -> None:
    """The whole view."""
    home = Workspace.current()
    st.title("What is in the photograph?")
    names = exported_models(home)
    if not names:
        st.info(NOTHING_EXPORTED)
        return
    models = []
    for name in _chosen(home, names):
        with loading.plain_errors(home):
            models.append(loading.model(home, name))
            if problem := outdated(home, models[-1]):
                loading.say(problem.replace(f"{home.root}/", ""))
    for name, content in _uploaded():
        with st.container(border=True), loading.plain_errors(home, name):
            _one(home, name, content, models)
    for model in models:
        _about(model)


def _chosen(home: Workspace, names: list[str]) -> list[str]:
    """The model to ask, and perhaps a second one."""
    try:
        best = choose_model(home, None).name
    except PipelineError:  # a choice for the visitor, then
        best = names[0]
    place = st.container(key="choices")
    first = place.selectbox(
        "Model", names, index=names.index(best), key="model", bind="query-params"
    )
    others = [name for name in names if name != first]
    second = place.selectbox(
        "Compare with",
        others,
        index=None,
        key="beside",
        bind="query-params",
        placeholder="no other model" if others else "no other model is exported",
        disabled=not others,
    )
    return [first, second] if second else [first]


def _uploaded() -> list[tuple[str, bytes]]:
    """Names and contents of the photographs at hand."""
    source = st.segmented_control(
        "From", [FROM_FILES, FROM_CAMERA], default=FROM_FILES, required=True, key="from"
    )
    if source == FROM_CAMERA:
        taken = st.camera_input("Take a photograph")
        return [("your photograph", taken.getvalue())] if taken else []
    files = st.file_uploader(
        f"Photographs, up to {STRICT.bytes // 1_000_000} MB each",
        type="image",
        accept_multiple_files=True,
        key="files",
    )
    if not files:
        st.caption(KEPT_NOWHERE)
    if len(files) > AT_ONCE:
        st.caption(f"The first {AT_ONCE} of {len(files)} are shown.")
    return [(file.name, file.getvalue()) for file in files[:AT_ONCE]]


def _one(home: Workspace, name: str, content: bytes, models: list[ExportedModel]) -> None:
    preview = loading.preview(content)
    predictions = [loading.prediction(model, content) for model in models]
    picture, *places = st.columns([1, *[2] * len(models)] if models else 1)
    for place, model, prediction in zip(places, models, predictions, strict=True):
        with place:
            _answer(home, preview, model, prediction)
    with picture:
        seen = predictions[0].photograph if predictions else None
        st.html(
            render(
                "app/photograph.html.j2",
                name=name,
                preview=address(preview, "jpeg"),
                photograph=seen,
                seen=address(seen.pixels) if seen else None,
                side=SIDE,
            )
        )


def _answer(
    home: Workspace, preview: np.ndarray, model: ExportedModel, prediction: Prediction
) -> None:
    if prediction.attention is None or prediction.features is None:
        raise PipelineError(prediction.error or "the model says nothing")
    problem = ""
    similar: list[dict[str, Any]] = []
    try:
        similar = _similar(home, model, prediction.features)
    except PipelineError as error:
        problem = str(error)
    lit = with_attention(centre_square(preview), prediction.attention)
    st.html(
        render(
            "app/answer.html.j2",
            model=model.name,
            classes=len(model.labels.classes),
            none_of_these=prediction.none_of_these,
            guesses=prediction.guesses,
            attention=address(lit, "jpeg"),
            similar=similar,
        )
    )
    if problem:
        loading.say(f"No similar training images are shown: {problem}".replace(f"{home.root}/", ""))


def _similar(home: Workspace, model: ExportedModel, features: np.ndarray) -> list[dict[str, Any]]:
    rows, _ = loading.neighbours(home, model.name).nearest(features, SIMILAR)
    images, names = loading.images(home), loading.classes(home).names
    labels = loading.labels(home)[rows]
    return [
        {"address": address(images[row]), "name": names[label]}
        for row, label in zip(rows.tolist(), labels.tolist(), strict=True)
    ]


def _about(model: ExportedModel) -> None:
    made = model.provenance
    with st.expander(f"About {model.name}"):
        st.markdown(
            f"Trained under the profile `{made['profile']}`, finished {made['finished'][:10]}, on "
            f"{'generated images' if made['generated'] else 'CIFAR-100'}. Probabilities are "
            f"calibrated with the temperature {model.temperature:.2f}. It knows "
            f"{len(model.labels.classes)} classes:"
        )
        st.caption(", ".join(map(words, model.labels.classes)))
        st.caption(f"Checksum of the exported file: {model.sha256}")
