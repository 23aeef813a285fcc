"""What decides a stage is derived by names; these tests hold that to what really runs."""

import ast
import shutil
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest

from cifar_pipeline.artifacts import replace, staging_path
from cifar_pipeline.definitions import build_defs
from cifar_pipeline.defs.steps import REPORTED_ONLY
from cifar_pipeline.graph.code import Code, Name, _neutral
from cifar_pipeline.graph.plan import PACKAGE, read_code_again, text_of, version_of
from cifar_pipeline.graph.stages import build_stages
from cifar_pipeline.paths import Workspace
from cifar_pipeline.settings.editing import select_models
from cifar_pipeline.settings.reading import load_params
from tests.workspaces import change_yaml


@contextmanager
def called():
    """The functions of the package that are called inside, by module and outermost name."""
    seen = set()

    def note(frame, event, _):
        code = frame.f_code
        # Templates are compiled to code of their own names; they count as files.
        if (
            event == "call"
            and code.co_filename.startswith(str(PACKAGE))
            and code.co_filename.endswith(".py")
        ):
            module = Path(code.co_filename).relative_to(PACKAGE).with_suffix("").parts
            seen.add((".".join(module), tuple(code.co_qualname.split("."))))

    sys.setprofile(note)
    threading.setprofile(note)
    try:
        yield seen
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


NOT_IN_A_PLAN = {
    "settings.data.Source.located",  # settings count by their values,
    "settings.optimization._changed",  # and validators change none
}
METADATA = {"model": "drawing."}
"""Modules that a body uses for what the UI shows, and for no artefact."""


class Probe:
    """Stands where DVC's part of a step is, so that every body runs in this process."""

    follower = SimpleNamespace(epoch=lambda record: None, trial=lambda figures: None)

    def __init__(self, home, params):
        self.home, self.params = home, params
        self._targets = []

    @contextmanager
    def step(self, _context, _stage):
        yield self

    def staged(self, target):
        self._targets.append(target)
        return staging_path(target)

    def finish(self, checks=(), metadata=None):
        assert all(check.passed for check in checks if check.name not in REPORTED_ONLY)
        for target in self._targets:
            replace(staging_path(target), target)
        self._targets.clear()
        return iter(())


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_everything_that_a_stage_calls_is_in_its_plan(smoke, params_file, monkeypatch):
    """Every kind of stage once, as short as it can be."""
    home = Workspace(params_file.parent)
    monkeypatch.setattr(Workspace, "current", lambda: home)
    (home.recorded_runs.parent).mkdir(parents=True)
    for recorded in (home.recorded_runs, home.recorded_studies):
        shutil.copy(PACKAGE.parent / "benchmarks/results" / recorded.name, recorded)
    recipes = params_file.parent / "recipes"
    change_yaml(recipes / "cnn9.yaml", lambda found: found["smoke"].update(epochs=2))
    short = {"draws": {"trials": 2, "folds": 2, "epochs": 1}, "grid": None}
    change_yaml(recipes / "custom_search.yaml", lambda found: found["search"].update(smoke=short))
    select_models(params_file, ["cnn9"])
    params = load_params(params_file)
    stages = {k: s for k, s in build_stages(params).items() if s.key != ("search", "ladder6")}
    bodies = {
        tuple(key.path): assets.op.compute_fn.decorated_fn
        for assets in build_defs(params).assets
        if isinstance(assets, dg.AssetsDefinition)
        for key in assets.keys
    }
    order = sorted(stages, key=lambda key: key[0] == "search")
    code, missing = Code(PACKAGE), {}
    for key in order:
        probe = Probe(home, params)
        resources = SimpleNamespace(pipeline=probe)
        context = SimpleNamespace(run_id="here", log_event=lambda event: None, resources=resources)
        with called() as seen:
            list(bodies[key](context, probe))
        found = set(code.behind(code.assets()[key[0]], *stages[key].code))
        names = {
            f"{module}.{part}"
            for module, qualified in seen
            if not _neutral(module)
            if (part := named(module, qualified)) is not None
        }
        shown = METADATA.get(key[0], " ")
        missing[key] = sorted(
            name for name in names - found - NOT_IN_A_PLAN if not name.startswith(shown)
        )
        assert len(names) > 5, key  # it was seen at all
    assert {key: names for key, names in missing.items() if names} == {}


def named(module, qualified):
    """The unit of `graph.code` that a function belongs to; None for what does not count."""
    if qualified[0].startswith("<"):
        return None
    if not module.startswith("settings."):
        return qualified[0]
    if len(qualified) == 1:
        return qualified[0]
    method = qualified[1]
    validator = method.startswith("_") and method not in ("__init__",)
    return None if validator or method.startswith("<") else f"{qualified[0]}.{method}"


@pytest.fixture
def package(tmp_path):
    """A small package of the shape that `Code` reads."""
    files = {
        "__init__.py": "import os\nos.environ.setdefault('B', '1')\n",
        "defs/assets.py": '''
import dagster as dg
from cifar_pipeline.defs.other import decorate
def build(stage):
    @dg.asset(description="words")
    def thing(context):
        """Words."""
        from cifar_pipeline.work import make
        return make(stage)
    return thing
''',
        "defs/other.py": "def decorate(): pass\n",
        "work.py": '''
from cifar_pipeline import tools
from cifar_pipeline.tools import LIMIT
from cifar_pipeline.errors import PipelineError
def make(stage):
    """Docstring."""
    # a comment
    if stage > LIMIT:
        raise PipelineError(f"too much: {stage}")
    print("making", stage)
    return tools.shape(stage), "page.html.j2"
def unused():
    return 1
''',
        "tools.py": """
import os
os.environ.setdefault("A", "1")
LIMIT = 3
def shape(stage):
    return inner(stage)
def inner(stage):
    return stage
class Other:
    pass
""",
        "errors.py": "class PipelineError(Exception): pass\n",
        "page.html.j2": '{% extends "base.html.j2" %}\n',
        "base.html.j2": "base\n",
        "other.html.j2": "other\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def behind(package):
    code = Code(package)
    return code.behind(code.assets()["thing"])


def test_what_a_body_uses_is_found_through_imports(package):
    assert list(behind(package)) == [
        "__init__.<module>",
        "base.html.j2",
        "defs.assets.build:thing",
        "page.html.j2",
        "tools.<module>",
        "tools.LIMIT",
        "tools.inner",
        "tools.shape",
        "work.make",
    ]


@pytest.mark.parametrize(
    ("file", "old", "new", "changed"),
    [
        ("work.py", '"""Docstring."""', '"""Other words."""', set()),
        ("work.py", "# a comment", "# another", set()),
        ("work.py", "too much", "far too much", set()),
        ("work.py", '"making"', '"made"', set()),
        (
            "work.py",
            "return tools.shape(stage), ",
            "return (\n        tools.shape(stage),\n    ) + ",
            None,
        ),
        ("work.py", "return 1", "return 2", set()),
        ("errors.py", "pass", "x = 1", set()),
        ("defs/other.py", "pass", "return 1", set()),
        ("defs/assets.py", '"words"', '"other"', set()),
        ("defs/assets.py", "make(stage)", "make(stage + 1)", {"defs.assets.build:thing"}),
        ("work.py", "stage > LIMIT", "stage >= LIMIT", {"work.make"}),
        ("tools.py", "LIMIT = 3", "LIMIT = 4", {"tools.LIMIT"}),
        ("tools.py", "    return stage\n", "    return -stage\n", {"tools.inner"}),
        ("tools.py", '"A", "1"', '"A", "2"', {"tools.<module>"}),
        ("tools.py", "class Other:\n    pass", "class Other:\n    x = 1", set()),
        ("__init__.py", "'1'", "'2'", {"__init__.<module>"}),
        ("base.html.j2", "base", "changed", {"base.html.j2"}),
        ("other.html.j2", "other", "changed", set()),
    ],
)
def test_only_what_can_change_an_artefact_counts(package, file, old, new, changed):
    before = behind(package)
    text = (package / file).read_text()
    assert old in text
    (package / file).write_text(text.replace(old, new))
    after = behind(package)
    if changed is None:  # formatting apart, this is another expression
        changed = {"work.make"}
    assert {name for name in {*before, *after} if before.get(name) != after.get(name)} == changed


def test_formatting_does_not_count(package):
    before = behind(package)
    path = package / "work.py"
    path.write_text(ast.unparse(ast.parse(path.read_text())))
    assert behind(package) == before


def test_a_root_that_does_not_exist_is_an_error(package):
    with pytest.raises(KeyError):
        Code(package).behind(Name("work", "gone"))


def test_every_other_file_of_the_package_belongs_to_a_stage(params_file):
    """A template or table that no stage is found to read would go stale without a word."""
    texts = "".join(text_of(stage) for stage in build_stages(load_params(params_file)).values())
    others = [
        path.name
        for path in PACKAGE.rglob("*")
        if path.is_file()
        and path.suffix not in {".py", ".pyc", ".typed"}
        and "app" not in path.relative_to(PACKAGE).parts  # the page makes no artefact
    ]
    assert others
    assert [name for name in others if f'"{name}"' not in texts] == []


def test_a_model_depends_on_its_own_architecture_alone(params_file):
    select_models(params_file, ["cnn9", "control", "resnet50", "efficientnet_b0"])
    stages = build_stages(load_params(params_file))
    modules = {
        "cnn9": "cnn9",
        "control": "cnn",
        "resnet50": "backbone",
        "efficientnet_b0": "efficientnet",
    }
    for name, module in modules.items():
        text = text_of(stages["model", name])
        assert f'"models.{module}.features"' in text
        for other in set(modules.values()) - {module}:
            assert f'"models.{other}.features"' not in text, (name, other)


SAMPLE = """
def make(stage: int | None, *rest: float, flag: bool = True) -> dict[str, list[int]]:
    match rest:
        case [first, *_] if first > 1e-3:
            text = f"{first:>{stage}.2f} {'quoted'!r}"
        case _:
            text = ""
    with open(text) as one, open(text) as two:
        return {key: [1, -2, ...] for key in (one, two) if not flag}
"""


def test_a_digest_is_the_same_under_every_python(package):
    """A stage must not go stale because a colleague runs another Python."""
    (package / "work.py").write_text(SAMPLE)
    assert behind(package)["work.make"] == "15920d039a0e2c8cc66bfffdb54dac93"


@pytest.mark.parametrize("recorded", ["recorded_runs", "recorded_studies"])
def test_what_is_recorded_counts_for_the_ledger_behind_dagster_too(
    recorded, params_file, monkeypatch
):
    """DVC has the file as a dependency; no asset makes it."""
    monkeypatch.setenv("CIFAR_ROOT", str(params_file.parent))
    stages = build_stages(load_params(params_file))
    path = getattr(Workspace.current(), recorded)
    path.parent.mkdir(parents=True)
    versions = []
    for text in ("[]", "[1]"):
        path.write_text(text)
        versions.append({key: version_of(stage) for key, stage in stages.items()})
    before, after = versions
    assert {key for key in before if before[key] != after[key]} == {("ledger",)}


def test_a_process_that_planned_before_sees_what_the_code_is_now(params_file, tmp_path):
    """Steps are forks of a process that has planned already."""
    package = tmp_path / "package"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    stage = build_stages(load_params(params_file))["splits",]
    before = text_of(stage, package)
    path = package / "dataset" / "splits.py"
    path.write_text(path.read_text().replace("n_splits=1", "n_splits=2"))
    read_code_again()
    assert text_of(stage, package) != before
