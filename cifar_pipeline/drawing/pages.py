"""Self-contained HTML from templates: pictures inside, no network, no script."""

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from cifar_pipeline.drawing import numbers

_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates"), encoding="utf-8"),
    autoescape=jinja2.select_autoescape(["html.j2"]),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True)
class Table:
    """A table as people read it: cells are text, and the first cell of a row names the row."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: frozenset[str] = frozenset()
    """headings of columns that hold words, which stand to the left; figures stand to the right"""


def render(template: str, **content: Any) -> str:
    """The template filled in; a value that is missing is an error."""
    return _ENVIRONMENT.get_template(template).render(**content)


def starting_point(weights: str) -> str:
    """The weights that a training started from, in words."""
    return "random weights" if weights == "none" else weights


def encoded(picture: Path) -> str:
    """A PNG file as text, for a data: address."""
    return base64.b64encode(picture.read_bytes()).decode()


def breakable(text: str) -> Markup:
    """Text with places at which a long name may be broken; markup is left as it is."""
    return text if isinstance(text, Markup) else escape(text).replace("_", Markup("_<wbr>"))


def words(name: str) -> str:
    """The name of a class as it is read: `aquarium_fish` as aquarium fish."""
    return name.replace("_", " ")


def quoted(text: str) -> str:
    """Text as a string of YAML, and of JSON."""
    return json.dumps(text, ensure_ascii=False)


def markdown(text: str) -> str:
    """Text whose punctuation means nothing in Markdown; underscores within words never do."""
    return re.sub(r"[\\`*\[\]<>&|$~#]|\b_|_\b|(?<=\W)_", r"\\\g<0>", text)


def link(address: str, text: str) -> Markup:
    """A link for a cell of a table."""
    return Markup('<a href="{}">{}</a>').format(address, breakable(text))


def with_interval(figure: str, low: str, high: str) -> Markup:
    """A figure above its interval, for a cell of a table."""
    return Markup("{}<small>{} to {}</small>").format(figure, low, high)


_ENVIRONMENT.filters |= {
    "percent": numbers.percent,
    "about": numbers.about,
    "decimal": numbers.decimal,
    "count": numbers.count,
    "breakable": breakable,
    "words": words,
    "quoted": quoted,
    "markdown": markdown,
}
