"""Writes the pages of docs/ that are derived from the code, so that they cannot fall behind it.

python docs/generate.py

configuration.md comes from the types in cifar_pipeline/settings, ledger.md from `cifar ledger`.
Every other page of docs/ is written by hand.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from pydantic.json_schema import models_json_schema

from cifar_pipeline.cli import main as cifar
from cifar_pipeline.reports.claims import load_published
from cifar_pipeline.settings.base import NAME
from cifar_pipeline.settings.params import Params
from cifar_pipeline.settings.recipe import Recipe
from cifar_pipeline.settings.search import Search

DOCS = Path(__file__).parent
ROOTS = (Params, Recipe, Search)
"""The types that a file is read into; all others are reached from these."""
NOTE = "<!-- Written by `python docs/generate.py`; do not edit. -->"
CONFIGURATION = """\
# Configuration

`params.yaml` holds the settings that every door reads, and each file in `recipes/` holds one model.
Both are checked when they are read: unknown keys, duplicate keys and values that contradict each
other are refused with the nearest valid name. This page lists every key. `cifar profile` shows and
sets the active profile; [own-recipe.md](how-to/own-recipe.md) shows how recipes and profiles fit
together.

Types with a name of their own have a section below.
"""
LEDGER = """\
# The ledger of claims

Each row is a figure that one of the five reports states, or that stands in its stored outputs only.
It is shown beside what the report's own code supports and what our runs reached.

- A claim is *reproduced* when it lies inside the 95% interval of a run with the report's own
  settings (the profile `paper`), started from the same weights and measured on all 10,000 test
  images. A count must be equal.
- Where there are runs with three seeds or more, it is *reproduced* when it lies inside the 95%
  prediction interval of one further training (Student's t, over the seeds). Then the ledger shows
  the mean and that interval.
- It is *not reproduced* when it lies outside.
- It is *not yet run* when there is no such run, whatever another recipe has reached.
- Where a recipe was trained more than once under a profile, the ledger says how often the test
  images were read: whoever changes a recipe after seeing its figure has chosen by that figure.

The second table holds claims that are not one figure. Each sets conditions on what the trainings of
a small study, or our runs with the report's own settings, reach. The rules were written down before
the study was run.

- A condition *holds* when the 95% confidence interval of the mean over at least three seeds
  (Student's t) lies wholly on the claimed side of its bound. It *fails* when the interval lies
  wholly on the other side, and *is open* when it contains the bound. Settings are compared seed by
  seed. Where there is one training whose figure has an interval of its own images, that interval
  decides.
- A claim is *reproduced* when all of its conditions hold, *not reproduced* when one fails, *not yet
  run* when trainings are missing, and *undecided* otherwise.

`cifar ledger` prints these tables from `cifar_pipeline/reports/claims.yaml`,
`benchmarks/results/runs.json` and `benchmarks/results/claims.json`. `cifar ledger --record` first
adds the runs that `data/` holds, and `python -m benchmarks.claims` the trainings of the study.
"""
REPORTS = """\

## The five reports

The letters stand for five student reports, here and in the recipes and results. The number after a
letter counts the systems of a report; an `s` marks a system that predicts the 20 superclasses.

| letter | author | report |
|---|---|---|
"""


def configuration() -> str:
    """docs/configuration.md: a table of keys for each type of the settings."""
    schema = models_json_schema([(root, "validation") for root in ROOTS])[1]["$defs"]
    sections = [CONFIGURATION]
    for name in _reached(schema):
        kind = schema[name]
        rows = [
            f"| `{key}` | {_values(field)} | {_default(key, field, kind)} "
            f"| {_escaped(field.get('description', ''))} |"
            for key, field in kind["properties"].items()
        ]
        heading = "| key | value | default | meaning |\n|---|---|---|---|"
        sections.append(
            "\n".join([f"## {name}\n", _escaped(kind["description"]), "", heading, *rows, ""])
        )
    return f"{NOTE}\n" + "\n".join(sections)


def ledger() -> str:
    """docs/ledger.md: what `cifar ledger` prints, and the reports by their letters."""
    printed = CliRunner().invoke(cifar, ["ledger"], catch_exceptions=False)
    if printed.exit_code:
        raise SystemExit(printed.output)
    rows = [
        f"| {letter} | {report.author} | [{report.title}]({report.url})"
        + (f", with [its code]({report.code}) |" if report.code else " |")
        for letter, report in load_published().reports.items()
    ]
    return f"{NOTE}\n{LEDGER}\n{printed.output}{REPORTS}" + "\n".join([*rows, ""])


PAGES: dict[str, Callable[[], str]] = {"configuration.md": configuration, "ledger.md": ledger}


def _reached(schema: dict[str, Any]) -> list[str]:
    """Names of all types, each after the first one that refers to it."""
    names: list[str] = []
    waiting = [root.__name__ for root in ROOTS]
    while waiting:
        name = waiting.pop(0)
        if name not in names:
            names.append(name)
            waiting[:0] = [other for other in _referred(schema[name]) if other not in names]
    return names


def _referred(schema: Any) -> Iterator[str]:
    if isinstance(schema, list):
        for item in schema:
            yield from _referred(item)
    elif isinstance(schema, dict):
        if "$ref" in schema:
            yield schema["$ref"].rsplit("/", 1)[1]
        for key, item in schema.items():
            if key != "discriminator":
                yield from _referred(item)


def _values(schema: dict[str, Any]) -> str:
    """What a key takes, in words."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})"
    if options := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(dict.fromkeys(map(_values, options)))
    if allowed := schema.get("enum") or [schema[key] for key in ("const",) if key in schema]:
        return ", ".join(f"`{value}`" for value in allowed)
    return {
        "array": _list,
        "object": _mapping,
        "boolean": lambda _: "`true` or `false`",
        "null": lambda _: "`null`",
        "string": lambda _: "name" if schema.get("pattern") == f"^{NAME}$" else "text",
        "integer": lambda _: f"whole number{_bounds(schema)}",
        "number": lambda _: f"number{_bounds(schema)}",
        None: lambda _: "any value",
    }[schema.get("type")](schema)


def _mapping(schema: dict[str, Any]) -> str:
    patterns = list(schema.get("patternProperties", {}).values())
    values = schema.get("additionalProperties") or (patterns or [None])[0]
    return f"mapping of names to {_values(values)}" if isinstance(values, dict) else "mapping"


def _list(schema: dict[str, Any]) -> str:
    if places := schema.get("prefixItems"):
        return f"list of {len(places)}: {_values(places[0])}"
    least, most = schema.get("minItems"), schema.get("maxItems")
    size = f" ({least} to {most} items)" if most else f" (at least {least})" if least else ""
    return f"list of {_values(schema['items'])}{size}"


def _bounds(schema: dict[str, Any]) -> str:
    if {"minimum", "maximum"} <= schema.keys():
        return f" from {schema['minimum']:g} to {schema['maximum']:g}"
    words = {
        "minimum": "at least",
        "exclusiveMinimum": "above",
        "maximum": "at most",
        "exclusiveMaximum": "below",
    }
    limits = [f"{word} {schema[key]:g}" for key, word in words.items() if key in schema]
    return f" {' and '.join(limits)}" if limits else ""


def _default(key: str, field: dict[str, Any], kind: dict[str, Any]) -> str:
    if key in kind.get("required", ()):
        return "required"
    if "$ref" in field and isinstance(field.get("default"), dict):
        return "its own defaults"
    return f"`{json.dumps(field['default'])}`"


def _escaped(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    for file, page in PAGES.items():
        (DOCS / file).write_text(page(), encoding="utf-8")
