"""The page as visitors have it: in Chromium, on a desk and on a phone. `pytest -m browser`."""

import shutil

import pytest

from cifar_pipeline.paths import Workspace
from tests.app.chromium import chromium
from tests.app.conftest import BLUE, RED, photograph, write_board
from tests.app.running import served

pytestmark = pytest.mark.browser
DESKTOP, PHONE = 1280, 390
VIEWS = {"": "Photographs, up to", "/test": "classified correctly", "/leaderboard": "top-1"}
VERDICTS = "[...document.querySelectorAll('.verdict')].map(e => e.innerText).join(', ')"
OUTSIDE = """[...document.querySelectorAll('[data-testid=stMain] *')].filter(element => {
  for (let outer = element.parentElement; outer; outer = outer.parentElement)
    if (["auto", "scroll", "hidden", "clip"].includes(getComputedStyle(outer).overflowX)
        && !outer.matches('[data-testid=stMain], [data-testid=stAppViewContainer], .stApp'))
      return false;
  return element.getBoundingClientRect().right > innerWidth + 1;
}).map(element => element.outerHTML.slice(0, 120))"""
CONTRAST = """(() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  function mixed(colour, under) {
    canvas.fillStyle = under; canvas.fillRect(0, 0, 1, 1);
    canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  }
  const css = rgb => `rgb(${rgb.join(',')})`;
  function paper(element) {
    if (!element) return [255, 255, 255];
    return mixed(getComputedStyle(element).backgroundColor, css(paper(element.parentElement)));
  }
  function luminance(rgb) {
    const [r, g, b] = rgb.map(value => {
      const share = value / 255;
      return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  }
  const words = [...document.querySelectorAll('.cifar *')].filter(
    e => e.getClientRects().length
      && [...e.childNodes].some(node => node.nodeType == 3 && node.data.trim()));
  return Math.min(...words.map(element => {
    const under = paper(element), over = mixed(getComputedStyle(element).color, css(under));
    const [dark, light] = [luminance(under), luminance(over)].sort((a, b) => a - b);
    return (light + 0.05) / (dark + 0.05);
  }));
})()"""
FOCUS = """(() => {
  const e = document.activeElement;
  return `${e.tagName} ${e.ariaLabel || e.innerText || e.textContent || ''}`.slice(0, 80);
})()"""


@pytest.fixture(scope="module")
def address(everything, tmp_path_factory):
    """A server that can write nothing, and of which the module's end sees that it wrote nothing."""
    home = Workspace(tmp_path_factory.mktemp("served") / "workspace")
    shutil.copytree(everything.root, home.root, symlinks=True)
    write_board(home)
    folder = tmp_path_factory.mktemp("server")
    with served(home.root, folder) as (found, _):
        yield found
    assert list(folder.rglob("*")) == []


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("chromium")) as tab:
        yield tab


@pytest.fixture
def tab(browser):
    browser.show(DESKTOP)
    yield browser
    assert browser.problems == []


@pytest.fixture
def files(tmp_path):
    """Photographs, and files that are none, on disk."""
    contents = {
        "red.png": photograph(RED),
        "blue.jpg": photograph(BLUE, "JPEG", (1600, 1200)),
        "large.png": photograph(RED) + bytes(5_000_000),
        "drawing.svg": b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
        "bad.jpg": photograph(RED, "JPEG")[:300],
        "too_large.png": bytes(50_000_000),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return {name: tmp_path / name for name in contents}


def test_photographs_are_uploaded_answered_and_compared(tab, address, files):
    tab.go(address)
    tab.says("Photographs, up to")
    tab.upload(files["red.png"], files["blue.jpg"])
    tab.wait(f"{VERDICTS} == 'generated 03, generated 20'")
    assert tab.evaluate("document.querySelectorAll('.similar img').length") == 12
    assert tab.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    tab.choose("Compare with", "second")
    tab.wait(f"{VERDICTS} == 'generated 03, generated 44, generated 20, generated 61'")
    assert "beside=second" in tab.evaluate("location.search")
    tab.upload(files["large.png"])  # of more than Starlette keeps in memory by itself
    tab.wait("document.querySelectorAll('.verdict').length == 6")


def test_hostile_files_get_a_sentence(tab, address, files):
    tab.go(address)
    tab.says("Photographs, up to")
    tab.upload(files["drawing.svg"], files["bad.jpg"], files["red.png"])
    tab.says("drawing.svg: this is an SVG drawing")
    tab.says("bad.jpg: the image is damaged")
    tab.wait(f"{VERDICTS} == 'generated 03'")
    tab.upload(files["too_large.png"])
    tab.says("File must be 20.0MB or smaller")
    assert "Traceback" not in tab.text()


def test_the_camera_is_asked_when_it_is_wanted(tab, address):
    tab.go(address)
    tab.says("Photographs, up to")
    assert "Take a photograph" not in tab.text()
    tab.click("Camera")
    tab.wait("[...document.querySelectorAll('video')].some(video => video.videoWidth)")
    tab.click("Take Photo")
    tab.wait("document.querySelectorAll('.verdict').length == 1")  # of Chromium's fake camera


def test_filters_survive_a_reload(tab, address):
    tab.go(f"{address}/test")
    tab.says("200 images")
    tab.choose("Show", "mistakes")
    tab.says("50 images")
    assert tab.evaluate("location.search") == "?show=mistakes"
    tab.click("2")
    tab.wait("document.querySelectorAll('.cards > li').length == 2")
    assert "page=2" in tab.evaluate("location.search")
    tab.evaluate("window.before = true")
    tab.call("Page.reload")
    tab.wait("!window.before && document.querySelectorAll('.cards > li').length == 2")
    assert "50 images" in tab.text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_nothing_is_cut_off_and_everything_can_be_read(tab, address, files, width, scheme):
    tab.show(width, scheme=scheme)
    for view, words in VIEWS.items():
        tab.go(address + view)
        tab.says(words)
        if not view:
            tab.upload(files["red.png"], files["bad.jpg"])
            tab.says("bad.jpg: the image is damaged")
            tab.wait("document.querySelectorAll('.similar img').length == 6")
        assert tab.evaluate("document.scrollingElement.scrollWidth - innerWidth") <= 0, view
        assert tab.evaluate(OUTSIDE) == [], view
        assert tab.evaluate(CONTRAST) >= 4.5, view  # WCAG 2.2, level AA
        dark = tab.evaluate("getComputedStyle(document.querySelector('.stApp')).colorScheme")
        assert dark == scheme


def test_nobody_else_is_asked_for_anything(tab, address):
    tab.asked.clear()
    for view, words in VIEWS.items():
        tab.go(address + view)
        tab.says(words)
    assert any(url.endswith(".js") for url in tab.asked)
    assert {url for url in tab.asked if not url.startswith((address, "data:", "blob:"))} == set()


def test_the_keyboard_reaches_everything(tab, address):
    tab.go(f"{address}/test")
    tab.says("200 images")
    reached = []
    for _ in range(40):
        tab.press("Tab")
        reached.append(tab.evaluate(FOCUS))
    told = "\n".join(reached)
    wanted = ["Photographs", "Test split", "Leaderboard", "Model", "Show", "Superclass", "Class"]
    places = [next((n for n, at in enumerate(reached) if name in at), -1) for name in wanted]
    assert -1 not in places, told
    assert places == sorted(places), told
    cards = [at for at in reached if at.startswith("SUMMARY")]
    assert cards, told
    tab.press("Enter")
    assert tab.evaluate("document.activeElement.parentElement.open"), told
