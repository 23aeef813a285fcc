"""How pictures look: one style and font on every machine, and colours that all can tell apart.

The same content gives the same bytes on every machine of one lock file: pictures are drawn in
matplotlib's default style and its own font, whatever a personal matplotlibrc says.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

DPI = 110
# Okabe and Ito (2008)
BLUE, ORANGE = "#0072B2", "#D55E00"
COLOURS = (BLUE, ORANGE, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "os^Dv*Pd"
LEGEND_COLUMNS = 4
INK, GREY = "#1a1a1a", "#767676"


@contextmanager
def own_style(**settings: Any) -> Iterator[None]:
    """Draw in matplotlib's default style with `settings`, whatever the user's matplotlibrc says."""
    with mpl.rc_context():
        mpl.rcdefaults()
        # By name, because the generic `sans-serif` may find a font of this machine.
        # A name of a class may hold a dollar sign, between two of which matplotlib sees a formula.
        changes: Any = {"font.family": "DejaVu Sans", "text.parse_math": False, **settings}
        mpl.rcParams.update(changes)
        yield


@own_style()
def save(figure: Figure, path: Path) -> None:
    """Write a PNG without a time stamp: the same picture gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI, format="png", metadata={"Software": None})
