"""A browser of the test split, with one model's answers."""

import numpy as np
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from cifar_pipeline.app import loading
from cifar_pipeline.drawing.numbers import count
from cifar_pipeline.drawing.pages import render, words
from cifar_pipeline.drawing.pixels import address
from cifar_pipeline.paths import Workspace
from cifar_pipeline.reports.browsing import SHOWS, Show, TestSplit

PER_PAGE = 48
NOTHING_PREDICTED = (
    "There are no predictions of the test split yet. Make them with `cifar run`, or fetch them "
    "with `dvc pull`, and reload this page."
)


def show() -> None:
    """The whole view."""
    home = Workspace.current()
    st.title("Test split")
    names = sorted(path.stem for path in home.all_predictions.glob("*.parquet"))
    if not names:
        st.info(NOTHING_PREDICTED)
        return
    filters = st.container(key="filters")
    chosen = filters.selectbox(
        "Model", names, key="model", bind="query-params", on_change=_first_page
    )
    with loading.plain_errors(home):
        split = loading.test_split(home, chosen)
        _browse(
            home,
            split,
            filters.selectbox(
                "Show",
                SHOWS,
                key="show",
                bind="query-params",
                on_change=_first_page,
            ),
            _choice(filters, "Superclass", "superclass", split.classes.coarse_names),
            _choice(filters, "Class", "class", split.classes.names),
        )


def _choice(place: DeltaGenerator, label: str, key: str, names: list[str]) -> str | None:
    return place.selectbox(
        label,
        names,
        index=None,
        format_func=words,
        placeholder="any",
        key=key,
        bind="query-params",
        on_change=_first_page,
    )


def _first_page() -> None:
    st.session_state["page"] = 1


def _counted(split: TestSplit, places: np.ndarray) -> str:
    if not len(places):
        return "No image is like that: choose another filter."
    right = int((split.predicted.predicted == split.predicted.true)[places].sum())
    told = f"{count(len(places))} {'image' if len(places) == 1 else 'images'}"
    classified = f", {count(right)} of them classified correctly" if right else ""
    return f"{told}{classified}. Each opens, and shows its five likeliest classes."


def _browse(
    home: Workspace, split: TestSplit, show: Show, superclass: str | None, name: str | None
) -> None:
    places = split.places(show, superclass, name)
    st.caption(_counted(split, places))
    pages = max(1, -(-len(places) // PER_PAGE))
    page = st.pagination(pages, key="page", bind="query-params") if pages > 1 else 1
    here = places[(page - 1) * PER_PAGE : page * PER_PAGE]
    images = loading.images(home)
    cards = []
    for answer in split.answers(here):
        duplicate = answer.duplicate if show == "near-duplicates" else None
        other = None
        if duplicate:
            pixels = images[duplicate.row_id]
            other = address(pixels[:, ::-1] if duplicate.mirrored else pixels)
        cards.append({"answer": answer, "address": address(images[answer.row_id]), "other": other})
    st.html(render("app/cards.html.j2", cards=cards))
