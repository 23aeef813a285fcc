"""All models of a profile side by side, and where their reports are."""

import streamlit as st

from cifar_pipeline.app import loading
from cifar_pipeline.app.server import PAGES
from cifar_pipeline.drawing.pages import render
from cifar_pipeline.paths import Workspace
from cifar_pipeline.reports.standings import outdated, read_leaderboard, readable

NO_LEADERBOARD = "There is no leaderboard yet. Make it with `cifar run`, and reload this page."
EXPLANATION = (
    "Below each accuracy is its 95% interval. The calibration error is the expected one over 15 "
    "bins; “scaled” is after temperature scaling. Each name leads to the report of the model."
)


def show() -> None:
    """The whole view."""
    home = Workspace.current()
    st.title("Leaderboard")
    if not home.leaderboard.is_dir():
        st.info(NO_LEADERBOARD)
        return
    with loading.plain_errors(home):
        board = read_leaderboard(home.leaderboard)
        if stale := outdated(home.leaderboard, home.reports):
            st.warning(
                f"Stale: {', '.join(stale)} has another report by now. Make the leaderboard again "
                "with `cifar run`."
            )
        for classes, group in board.groupby("classes", sort=False):
            if board["classes"].nunique() > 1:
                st.subheader(f"Models of the {classes} classes")
            table = readable(group, f"{PAGES}/reports")
            st.html(render("app/table.html.j2", content=table, pages=PAGES, told=EXPLANATION))
