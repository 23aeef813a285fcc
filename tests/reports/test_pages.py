"""What pages look like in a browser. `pytest -m browser`; needs Chromium."""

import json
import shutil
import subprocess

import numpy as np
import pytest

from cifar_pipeline.drawing.pages import Table, breakable, link, render, with_interval
from cifar_pipeline.reports.leaderboard import write_leaderboard
from cifar_pipeline.reports.ledger import write_ledger
from cifar_pipeline.reports.runs import load_runs
from cifar_pipeline.reports.statements import load_measurements
from cifar_pipeline.settings.evaluation import Ensemble
from tests.reports.artefacts import entry_of, recipe_with
from tests.workspaces import CHECKOUT

DESKTOP, PHONE = 1280, 390
CUT_OFF = """<!doctype html><html><body style="margin: 0"><div style="width: 1500px; color: #999">
too wide for either, and too pale</div></body></html>"""
MEASURE = """<!doctype html><html><body><pre id="found"></pre>%s<script>
function luminance(colour) {
  const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).map(value => {
    const share = value / 255;
    return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
function contrast(element, view) {
  let behind = element;
  const opaque = e => !view.getComputedStyle(e).backgroundColor.endsWith(", 0)");
  while (behind && !opaque(behind)) behind = behind.parentElement;
  const paper = behind ? luminance(view.getComputedStyle(behind).backgroundColor) : 1;
  const ink = luminance(view.getComputedStyle(element).color);
  return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
}
function contained(element, view) {
  for (let outer = element.parentElement; outer; outer = outer.parentElement)
    if (["auto", "scroll"].includes(view.getComputedStyle(outer).overflowX)) return true;
  return false;
}
addEventListener("load", () => {
  const found = [...document.querySelectorAll("iframe")].map(frame => {
    const view = frame.contentWindow, page = frame.contentDocument;
    page.querySelectorAll("details").forEach(details => details.open = true);
    const all = [...page.querySelectorAll("body *")], width = page.documentElement.clientWidth;
    const words = all.filter(e => [...e.childNodes].some(n => n.nodeType == 3 && n.data.trim()));
    return {
      page: frame.title, width: view.innerWidth,
      overflow: page.scrollingElement.scrollWidth - width,
      outside: all.filter(e => e.getBoundingClientRect().right > width + 1 && !contained(e, view))
        .map(e => e.outerHTML.slice(0, 80)),
      scrolling: all.filter(e => e.scrollWidth > e.clientWidth + 1 && e.matches(".scroll")).length,
      contrast: Math.min(...words.map(e => contrast(e, view))),
    };
  });
  document.getElementById("found").textContent = JSON.stringify(found);
});
</script></body></html>"""


def measured(pages, folder, scheme):
    """What Chromium makes of each page at each width, in one start."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    assert chromium, (
        "Chromium is not on the PATH: `apt-get install chromium`, or `-m 'not browser'`"
    )
    frames = [
        f'<iframe title="{name}" src="{path.as_uri()}" width="{width}" height="900" '
        'style="border: 0"></iframe>'
        for name, path in pages.items()
        for width in (DESKTOP, PHONE)
    ]
    (folder / "measure.html").write_text(MEASURE % "".join(frames), encoding="utf-8")
    flags = (
        "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
        "disable-component-update disable-sync allow-file-access-from-files dump-dom "
        f"virtual-time-budget=30000 user-data-dir={folder / 'profile'} "
        f"blink-settings=preferredColorScheme={ {'dark': 0, 'light': 1}[scheme] }"
    )
    done = subprocess.run(
        [chromium, *(f"--{flag}" for flag in flags.split()), (folder / "measure.html").as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    found = done.stdout.split('<pre id="found">')[1].split("</pre>")[0]
    assert found, done.stderr[-2000:]
    return json.loads(found.replace("&gt;", ">").replace("&lt;", "<").replace("&amp;", "&"))


@pytest.fixture(scope="module")
def pages(made, classes, shared_inputs, labels, tmp_path_factory):
    """A report, a leaderboard of models with long names, the ledger of our runs, and a search."""
    from tests.search.test_results import write_told  # takes seconds, as Keras does

    folder = tmp_path_factory.mktemp("pages")
    entries = {
        name: entry_of(
            folder / name,
            classes,
            shared_inputs,
            labels,
            np.arange(200) % every > 0,
            recipe=recipe_with(image_size=size, seed=every),
            weights={"name": "efficientnetv2_b0_21k_ft1k_notop.weights.h5"},
            parameters=13_870_484,
            training_s=39_000.0,
        )
        for name, every, size in (
            ("efficientnetv2_b0_final", 20, 64),
            ("efficientnetv2_b0_final_seed7", 10, 64),
            ("mobilenet_from_the_ladder", 3, 32),
        )
    }
    ensembles = {"all_with_mirror_images": Ensemble(members=tuple(entries), mirrored=True)}
    write_leaderboard(entries, ensembles, folder / "leaderboard")
    recorded = CHECKOUT / "benchmarks" / "results"
    runs = load_runs(recorded / "runs.json")
    measurements = load_measurements(recorded / "claims.json")
    write_ledger(runs, measurements, folder / "ledger")
    write_told(folder / "search")
    return {
        "report": made / "index.html",
        "leaderboard": folder / "leaderboard" / "index.html",
        "ledger": folder / "ledger" / "index.html",
        "search": folder / "search" / "index.html",
    }


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_cut_off_and_everything_can_be_read(pages, tmp_path, scheme):
    (tmp_path / "cut_off.html").write_text(CUT_OFF)
    found = measured({**pages, "cut off": tmp_path / "cut_off.html"}, tmp_path, scheme)
    *ours, on_desktop, on_phone = found
    for control in (on_desktop, on_phone):
        assert control["overflow"] > 0
        assert len(control["outside"]) == 1
        assert control["contrast"] < 4.5
    assert [(page["page"], page["width"]) for page in ours] == [
        (name, width) for name in pages for width in (DESKTOP, PHONE)
    ]
    for page in ours:
        assert page["overflow"] <= 0, page
        assert page["outside"] == [], page
        assert page["contrast"] >= 4.5, page  # WCAG 2.2, level AA
        if page["width"] == DESKTOP:
            assert page["scrolling"] == 0, page


def test_text_of_tables_is_escaped_and_markup_is_not():
    table = Table(["model", "<b>"], [[link("../a_b", "a_b<"), with_interval("1", "0", "2")]])
    page = render(
        "leaderboard.html.j2",
        title="<t>",
        subtitle="",
        generated=False,
        pictures=dict.fromkeys(("accuracy", "cost", "curves"), ("", "", "")),
        tables={100: table},
        missing=[],
        pairs=Table([], []),
        ensembles=Table([], []),
    )
    assert "<h1>&lt;t&gt;</h1>" in page
    assert '<th scope="row"><a href="../a_b">a_<wbr>b&lt;</a></th>' in page
    assert "<td>1<small>0 to 2</small></td>" in page
    assert breakable("a_<") == "a_<wbr>&lt;"
