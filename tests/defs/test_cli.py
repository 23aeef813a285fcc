"""The commands up to where they start a run: what they choose, skip, refuse and leave as it was."""

import pytest
import yaml
from click.testing import CliRunner

from cifar_pipeline.cli import main
from cifar_pipeline.settings.editing import select_profile
from tests.workspaces import change_yaml

pytestmark = pytest.mark.xdist_group("recorded")  # they share a checkout
UNREACHABLE = "http://127.0.0.1:9/cifar-100-python.tar.gz"


def cifar(*arguments):
    return CliRunner().invoke(main, arguments)


def settings(home):
    return {path: path.read_bytes() for path in (home.params, *home.root.glob("recipes/*.yaml"))}


@pytest.fixture(autouse=True)
def no_way_to_the_archive(home):
    change_yaml(home.params, lambda content: content["sources"]["cifar100"].update(url=UNREACHABLE))
    text = home.params.read_text()  # `models` in a line, as `cifar` edits it
    models = yaml.safe_load(text)["models"]
    block = "models:\n" + "".join(f"- {name}\n" for name in models)
    assert block in text
    home.params.write_text(text.replace(block, f"models: [{', '.join(models)}]\n"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("report", "control"), "there is no report of 'control' yet"),
        (("report", "cnn"), "no recipe or group 'cnn' (did you mean 'cnn9'?)"),
        (("profile", "smok"), "there is no profile 'smok' (did you mean 'smoke'?)"),
        (("run", "--profile", "x"), "there is no profile 'x'"),
        (("run", "--model", "cnn"), "no recipe or group 'cnn' (did you mean 'cnn9'?)"),
        (("run", "--profile", "laptop", "--model", "control"), "cannot be fetched"),
        (("search", "cnn9"), "cnn9"),
        (("search", "custom_search", "--profile", "x"), "there is no profile 'x'"),
        (("adopt", "ladder6", "mine"), "run `cifar search ladder6`"),
        (("adopt", "cnn9", "mine"), "there is no search around 'cnn9'"),
        (("report", "customs"), "is a group of recipes"),
    ],
)
def test_mistakes_are_answered_in_a_message_and_change_nothing(home, arguments, message):
    before = settings(home)
    done = cifar(*arguments)
    assert done.exit_code == 1
    assert message in done.output
    assert "Traceback" not in done.output
    assert isinstance(done.exception, SystemExit)
    assert settings(home) == before


@pytest.mark.parametrize("name", ["$(touch x)", "a b", ".", "a@b", "${item}", "../up", "Ä", "a;b"])
@pytest.mark.parametrize("key", ["models", "searches"])
def test_names_that_a_shell_or_a_path_would_read_are_refused(home, name, key):
    change_yaml(home.params, lambda content: content.update({key: [name]}))
    before = settings(home)
    for command in ("run", "plan", "status"):
        done = cifar(command)
        assert done.exit_code == 1
        assert f"{key}.0: " in done.output
        assert repr(name) in done.output
    assert settings(home) == before


def test_an_archive_that_the_user_named_is_never_replaced_by_generated_images(home, monkeypatch):
    select_profile(home.params, "quick")
    before = settings(home)
    for named in (UNREACHABLE, "nowhere.tar.gz"):
        monkeypatch.setenv("CIFAR_ARCHIVE", named)
        done = cifar("run")
        assert done.exit_code == 1
        assert "cannot be fetched" in done.output or "there is no archive at" in done.output
        assert "smoke" not in done.output
    assert settings(home) == before


def test_only_a_newcomer_gets_generated_images(home):
    """Under the profile that the repository names, without having asked for any."""
    select_profile(home.params, "laptop")
    before = settings(home)
    assert cifar("run").exit_code == 1
    assert cifar("run", "--profile", "quick").exit_code == 1
    assert settings(home) == before
    select_profile(home.params, "quick")
    done = cifar("run")
    assert done.exit_code == 0, done.output
    assert (
        f"cannot be reached at {UNREACHABLE}, so this runs the profile `smoke` on generated images"
        in done.output
    )
    assert yaml.safe_load(home.params.read_text())["profile"] == "smoke"


@pytest.mark.parametrize("arguments", [(), ("--profile", "smoke", "--model", "cnn9")])
def test_what_is_up_to_date_is_skipped_and_the_others_stay_in_the_graph(home, arguments):
    before = settings(home)
    done = cifar("run", *arguments)
    assert done.exit_code == 0, done.output
    first, *rest = done.output.splitlines()
    assert first.startswith("up to date, skipped: archive, table, splits, test_subsets, model/cnn9")
    assert ("efficientnet_b0" in first) == (not arguments)
    assert any("cnn9" in line and "50.00%" in line and "generated images" in line for line in rest)
    assert settings(home) == before


def test_status_says_what_would_run_and_why(home):
    assert "everything is up to date" in cifar("status").output
    change_yaml(
        home.root / "recipes/cnn9.yaml",
        lambda content: content["smoke"].update(epochs=2, batch_size=16),
    )
    (home.predictions("efficientnet_b0")).unlink()
    lines = [line.split(maxsplit=1) for line in cifar("status").output.splitlines()]
    assert lines == [
        ["profile", "smoke"],
        ["model/cnn9", "settings changed: recipe.batch_size, recipe.epochs"],
        ["predictions/efficientnet_b0", "data/predictions/efficientnet_b0.parquet is missing"],
        ["report/efficientnet_b0", "data/predictions/efficientnet_b0.parquet is missing"],
        ["leaderboard", "data/predictions is modified"],
    ]
