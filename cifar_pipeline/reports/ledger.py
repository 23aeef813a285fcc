"""The ledger: what was published beside what was measured, as a page and as Markdown."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cifar_pipeline.artifacts import replacing_folder
from cifar_pipeline.drawing.numbers import NONE, count, decimal, percent
from cifar_pipeline.drawing.pages import Table, render, starting_point, with_interval
from cifar_pipeline.reports.claims import load_published
from cifar_pipeline.reports.judging import HEADINGS, PAPER, VERDICTS, ledger
from cifar_pipeline.reports.runs import SHOWN, Run, readings
from cifar_pipeline.reports.statements import Judged, Measurement, judge_statements, of_runs

STATED = ("claim", "what is claimed", "remarks", "verdict", "rule and outcome")
"""Headings of the table of statements."""


def markdown(runs: Sequence[Run], measurements: Sequence[Measurement]) -> str:
    """The ledger as two Markdown tables, in which each claim leads to its report."""
    figures = [list(row.cells().values()) for row in ledger(runs)]
    statements = [_cells(judged) for judged in _judged(runs, measurements)]
    studies = [f"- `{name}`: {what}" for name, what in load_published().studies.items()]
    lines = [
        *_table(HEADINGS, figures),
        "\n## Claims that are not one figure\n",
        *_table(STATED, statements),
        "\nThe trainings that they are tested by:\n",
        *studies,
    ]
    return "\n".join(lines) + "\n"


def write_ledger(
    runs: Sequence[Run], measurements: Sequence[Measurement], folder: Path
) -> dict[str, int]:
    """Write `ledger.csv`, `statements.csv` and a page to `folder`, replacing it.

    Returns:
        How many claims have which verdict.
    """
    rows, reports = ledger(runs), load_published().reports
    statements = _judged(runs, measurements)
    found = [*(row.verdict for row in rows), *(judged.verdict for judged in statements)]
    verdicts = {verdict: found.count(verdict) for verdict in VERDICTS if verdict in found}
    with replacing_folder(folder) as new:
        table = pd.DataFrame([row.cells() for row in rows], columns=list(HEADINGS))
        table.to_csv(new / "ledger.csv", index=False, encoding="utf-8")
        stated = pd.DataFrame([_cells(judged) for judged in statements], columns=list(STATED))
        stated.to_csv(new / "statements.csv", index=False, encoding="utf-8")
        page = render(
            "ledger.html.j2",
            title="The ledger of claims",
            subtitle=f"{len(rows)} published figures, {len(statements)} other claims and "
            f"{len(runs)} runs of ours on CIFAR-100",
            generated=False,
            verdicts=verdicts,
            profile=PAPER,
            headings=HEADINGS[1:],
            stated=STATED[1:],
            studies=load_published().studies,
            groups=[
                {
                    "letter": letter,
                    "published": published,
                    "rows": [row for row in rows if row.claim.system[0] == letter],
                    "statements": [
                        judged for judged in statements if judged.statement.system[0] == letter
                    ],
                }
                for letter, published in reports.items()
            ],
            runs=_described(runs),
            machines=_machines(runs),
        )
        (new / "index.html").write_text(page, encoding="utf-8", newline="\n")
    return verdicts


def _judged(runs: Sequence[Run], measurements: Sequence[Measurement]) -> list[Judged]:
    return judge_statements([*of_runs(runs), *measurements])


def _cells(judged: Judged) -> list[str]:
    statement = judged.statement
    told = "; ".join(found.told for found in judged.examined) or NONE
    return [statement.system, statement.says, statement.evidence, judged.verdict, told]


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of Markdown. The first cell of each row begins with the letter of a report."""
    reports = load_published().reports
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    for claim, *rest in rows:
        url = reports[claim[0]].url
        lines.append("| " + " | ".join([f"[{claim}]({url})" if url else claim, *rest]) + " |")
    return lines


def _described(runs: Sequence[Run]) -> Table:
    headings = [
        "recipe",
        "profile",
        "seed",
        *SHOWN,
        "readings of the test split",
        "training, min",
        "run",
        "started from",
    ]
    reads = readings(runs)
    rows = [
        [
            run.recipe,
            run.profile,
            str(run.seed),
            *(
                with_interval(
                    *(percent(run.metrics[f"{key}{end}"]) for end in ("", "_low", "_high"))
                )
                for key in SHOWN.values()
            ),
            count(reads[run.recipe, run.profile, run.seed]),
            decimal(run.training_s / 60, 1),
            run.run_id[:8],
            starting_point(run.weights),
        ]
        for run in runs
    ]
    return Table(headings, rows, frozenset({"profile", "started from"}))


def _machines(runs: Sequence[Run]) -> Table:
    headings = ["run", "finished", "code", "hardware", "versions"]
    rows: list[list[Any]] = [
        [
            run.run_id,
            run.finished,
            run.code_revision,
            run.hardware,
            ", ".join(f"{name} {version}" for name, version in run.versions.items()),
        ]
        for run in runs
    ]
    return Table(headings, rows, frozenset(headings))
