"""README.md, docs/ and deploy/ are true: links, figures, commands, snippets, generated pages."""

import re
import tomllib
from pathlib import Path

import click
import pytest
from ruamel.yaml import YAML

from cifar_pipeline.cli import main
from cifar_pipeline.reports.claims import load_published
from cifar_pipeline.settings.params import merge
from cifar_pipeline.settings.reading import load_params, read_yaml
from docs.generate import PAGES, configuration
from tests.workspaces import CHECKOUT


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


DOCS = CHECKOUT / "docs"
WRITTEN = sorted([*CHECKOUT.glob("*.md"), *DOCS.rglob("*.md"), CHECKOUT / "deploy" / "README.md"])
RECORDS = sorted((CHECKOUT / "benchmarks" / "results").glob("*.md"))
RECORDED = [
    path for path in sorted(CHECKOUT.glob("recipes/*.yaml")) if "benchmarks/results/" in read(path)
]
"""Recipes that say what they reached. One of the user's own need not."""
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
FIGURE = re.compile(r"(\d+(?:\.\d+)?) ?%")


def named(path: Path) -> str:
    return str(path.relative_to(CHECKOUT))


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"(?m)^#+ (.+)$", FENCE.sub("", text))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_reports_are_named_and_linked():
    assert set(load_published().reports) == set("KCVRS")
    for report in load_published().reports.values():
        assert f"{report.author} | [{report.title}]({report.url})" in read(DOCS / "ledger.md")


@pytest.mark.parametrize("file", PAGES)
def test_generated_pages_are_current(file):
    assert read(DOCS / file) == PAGES[file](), f"docs/{file}: run `python docs/generate.py`"


def test_every_key_says_what_it_means():
    assert [row for row in configuration().splitlines() if row.endswith("|  |")] == []


def test_the_readme_can_be_read_in_minutes():
    assert len(read(CHECKOUT / "README.md").split()) <= 900


@pytest.mark.parametrize("page", [*WRITTEN, *RECORDS], ids=named)
def test_links_resolve(page):
    for target in LINK.findall(read(page)):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        linked = (page.parent / file).resolve() if file else page
        assert linked.exists(), f"{named(page)} links {target}, which does not exist"
        if anchor:
            assert anchor in anchors(read(linked)), f"{named(page)}: no heading for {target}"


def test_every_page_is_reached_from_the_readme():
    reached, waiting = set(), [CHECKOUT / "README.md"]
    while waiting:
        page = waiting.pop()
        reached.add(page)
        targets = (target.partition("#")[0] for target in LINK.findall(read(page)))
        pages = {(page.parent / target).resolve() for target in targets if target.endswith(".md")}
        waiting += sorted((pages & set(WRITTEN)) - reached)
    assert {named(page) for page in set(WRITTEN) - reached} == set()


@pytest.mark.parametrize("page", [*WRITTEN, *RECORDS], ids=named)
def test_letters_of_reports_are_explained(page):
    """Where K1 or C7 stands, a link says whose report that is."""
    if re.search(r"\b[KCVRS][0-9]s?\b", read(page)):
        assert "the-five-reports" in anchors(read(page)) or "#the-five-reports" in read(page)


@pytest.mark.parametrize(
    "page",
    [CHECKOUT / "README.md", DOCS / "results.md", *RECORDED],
    ids=named,
)
def test_percentages_were_measured(page):
    """Each stands in benchmarks/results, or in the ledger, which is made from claims and runs."""
    sources = [*RECORDS, DOCS / "ledger.md"]
    known = {
        float(figure) for source in sources for figure in re.findall(r"\d+\.?\d*", read(source))
    }
    figures = {float(figure) for figure in FIGURE.findall(read(page))}
    assert figures - {95.0} <= known  # 95% intervals


def test_the_architecture_lists_the_layers():
    project = tomllib.loads(read(CHECKOUT / "pyproject.toml"))
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"]
    table = read(DOCS / "architecture.md").partition("## Layers")[2].partition("\n## ")[0]
    rows = re.findall(r"(?m)^\| (`[^|]+) \|", table)
    assert [re.findall(r"`(\w+)`", row) for row in rows] == [re.findall(r"\w+", x) for x in layers]


def commands(text: str, program: str) -> set[tuple[str, ...]]:
    """The calls of a program in code blocks and code spans, as words."""
    blocks = [body for language, body in FENCE.findall(text) if language in ("sh", "")]
    lines = [line.partition(" #")[0] for block in blocks for line in block.splitlines()]
    spans = re.findall(r"`([^`\n]+)`", FENCE.sub("", text))
    calls = (line.strip().removeprefix("$ ").split() for line in [*lines, *spans])
    return {tuple(call) for call in calls if len(call) > 1 and call[0] == program}


def test_commands_of_cifar_exist():
    found = {call for page in WRITTEN for call in commands(read(page), "cifar")}
    assert found
    for call in found:
        words = [word for word in call[1:] if word != "|"]
        command: click.Command = main
        while isinstance(command, click.Group) and words and not words[0].startswith("-"):
            assert words[0] in command.commands, f"`{' '.join(call)}`: no such command"
            command = command.commands[words.pop(0)]
        options = {name for parameter in command.params for name in parameter.opts}
        for word in words:
            if word.startswith("--") and word != "--help":
                assert word in options, f"`{' '.join(call)}`: no option {word}"


def test_targets_of_make_exist():
    targets = set(re.findall(r"(?m)^([a-z]+):", read(CHECKOUT / "Makefile")))
    found = {call for page in WRITTEN for call in commands(read(page), "make")}
    assert found
    for call in found:
        words = {word for word in call[1:] if re.fullmatch("[a-z]+", word)}
        assert words <= targets, f"`{' '.join(call)}`"


def snippets(page: Path) -> list[str]:
    """Settings: YAML that names its file in the first line."""
    blocks = [body for language, body in FENCE.findall(read(page)) if language == "yaml"]
    return [body for body in blocks if re.match(r"# (recipes/\w+|params)\.yaml\n", body)]


@pytest.mark.parametrize("page", [page for page in WRITTEN if snippets(page)], ids=named)
def test_snippets_of_settings_are_valid(page, params_file):
    """Each is written to the file that it names, or merged into params.yaml."""
    for snippet in snippets(page):
        file = params_file.parent / snippet.split(maxsplit=2)[1]
        content = read_yaml(params_file) if file == params_file else {}
        with file.open("w", encoding="utf-8") as stream:
            YAML().dump(merge(content, YAML(typ="safe", pure=True).load(snippet)), stream)
        load_params(params_file)


def test_a_model_is_used_as_the_page_shows(tmp_path, monkeypatch, capsys):
    import keras

    folder = tmp_path / "data" / "models" / "cnn9"
    folder.mkdir(parents=True)
    layers = [keras.layers.Flatten(), keras.layers.Rescaling(1 / 255), keras.layers.Dense(2)]
    keras.Sequential([keras.Input((32, 32, 3)), *layers]).save(folder / "model.keras")
    (folder / "labels.json").write_text('{"classes": ["apple", "pear"]}', encoding="utf-8")
    (folder / "calibration.json").write_text('{"temperature": 1.5}', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    blocks = FENCE.findall(read(DOCS / "how-to" / "use-a-model.md"))
    with_keras, _ = (body for language, body in blocks if language == "python")
    exec(with_keras, {})  # noqa: S102
    printed = capsys.readouterr().out.split()
    assert (len(printed), set(printed) <= {"apple", "pear"}) == (2, True)
