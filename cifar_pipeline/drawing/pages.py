"""Self-contained HTML from templates: pictures inside, no network, no script."""

import base64
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=jinja2.select_autoescape(["html.j2"]),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(template: str, **content: Any) -> str:
    """The template filled in; a value that is missing is an error."""
    return _ENVIRONMENT.get_template(template).render(**content)


def table_html(frame: pd.DataFrame) -> str:
    """A table of `frame` without its index, figures to three decimals."""
    return frame.to_html(index=False, border=0, float_format="{:.3f}".format)


def starting_point(weights: str) -> str:
    """The weights that a training started from, in words."""
    return "random weights" if weights == "none" else weights


def encoded(picture: Path) -> str:
    """A PNG file as text, for a data: address."""
    return base64.b64encode(picture.read_bytes()).decode()
