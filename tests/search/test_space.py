import pytest

from cifar_pipeline.errors import PipelineError
from cifar_pipeline.search.space import decoded, plan_draws, plan_grid
from cifar_pipeline.settings.editing import add_recipe, select_models, select_searches
from cifar_pipeline.settings.params import PROFILES
from cifar_pipeline.settings.reading import load_params
from cifar_pipeline.settings.search import Search
from tests.workspaces import change_yaml

SEARCH = {
    "space": {
        "architecture.blocks.0.filters": {"low": 4, "high": 16, "step": 4},
        "architecture.hidden": [[8], [8, 8]],
        "optimizer.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
    },
    "draws": {"trials": 6, "folds": 2, "epochs": 2, "batch_size": 32},
    "grid": {"best": 3, "trials": 5, "folds": 2, "epochs": 3, "batch_size": 16},
    "seed": 1,
}


def search(**changes):
    return Search.model_validate(SEARCH | changes)


def test_draws_stay_inside_the_space_and_follow_from_the_seed():
    drawn = plan_draws(search())
    assert len(drawn) == 6
    assert drawn == plan_draws(search())
    assert drawn != plan_draws(search(seed=2))
    assert {parameters["architecture.blocks.0.filters"] for parameters in drawn} <= {4, 8, 12, 16}
    assert all(1e-4 <= parameters["optimizer.learning_rate"] <= 1e-1 for parameters in drawn)
    assert {str(decoded(search(), parameters)["architecture.hidden"]) for parameters in drawn} <= {
        "[8]",
        "[8, 8]",
    }


def test_the_first_draws_of_a_longer_search_are_those_of_a_shorter_one():
    longer = search(draws=SEARCH["draws"] | {"trials": 9})
    assert plan_draws(longer)[:6] == plan_draws(search())


def test_the_grid_is_over_what_the_best_disagree_on():
    rates = {"optimizer.learning_rate": 0.01}
    best = [
        {"architecture.blocks.0.filters": 4, "architecture.hidden": "[8]", **rates},
        {"architecture.blocks.0.filters": 8, "architecture.hidden": "[8]", **rates},
        {"architecture.blocks.0.filters": 8, "architecture.hidden": "[8, 8]", **rates},
    ]
    grid = plan_grid(search(), best)
    assert grid[0] == best[0]
    found = {
        (parameters["architecture.blocks.0.filters"], parameters["architecture.hidden"])
        for parameters in grid
    }
    assert found == {(4, "[8]"), (4, "[8, 8]"), (8, "[8]"), (8, "[8, 8]")}
    assert len(grid) == 4
    assert {parameters["optimizer.learning_rate"] for parameters in grid} == {0.01}
    few = plan_grid(search(grid=SEARCH["grid"] | {"trials": 2}), best)
    assert few[0] == best[0]
    assert len(few) == 2
    assert few[1] in grid[1:]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"space": {"optimizer.learnin_rate": [0.1, 0.2]}},
            "the recipe has no `optimizer.learnin_rate`",
        ),
        (
            {"space": {"architecture.blocks.7.filters": [8, 16]}},
            r"the recipe has no `architecture\.blocks\.7\.filters`",
        ),
        (
            {"space": {"architecture.blocks.².filters": [8, 16]}},
            r"the recipe has no `architecture\.blocks\.²\.filters`",
        ),
        (
            {"space": {"architecture.hidden.0": [0, 16]}},
            r"`architecture\.hidden\.0: 0` is not valid",
        ),
        ({"space": {"optimizer.learning_rate": [0.1]}}, r"space\.optimizer\.learning_rate"),
        (
            {"space": {"architecture.hidden.0": {"low": 32, "high": 64, "step": 0.5}}},
            r"`architecture\.hidden\.0: 32.5` is not valid",
        ),
        (
            {"space": {"optimizer.learning_rate": {"low": 0.1, "high": 0.2, "step": -0.1}}},
            r"step: .*greater than 0",
        ),
        (
            {"space": {"weights": ["none", "imagenet"]}},
            "`weights` in the space; it is the same for all trials",
        ),
        (
            {"train_per_class": 4, "grid": {"trials": 2, "folds": 5, "epochs": 1, "batch_size": 8}},
            "5 folds of 4 images a class",
        ),
        (
            {"space": {"optimizer.learning_rate": {"low": 0.2, "high": 0.1}}},
            "`low` must be below `high`",
        ),
        (
            {"space": {"optimizer.learning_rate": {"low": 0.0, "high": 0.1, "log": True}}},
            "`log` takes a `low` above zero",
        ),
        ({"drws": {}}, r"drws: no such key \(did you mean 'draws'\?\)"),
    ],
)
def test_a_wrong_search_is_refused(params_file, change, message):
    def spoil(content):
        content["search"] = {"paper": content["search"]["paper"] | change}

    change_yaml(params_file.parent / "recipes" / "custom_search.yaml", spoil)
    with pytest.raises(PipelineError, match=message):
        load_params(params_file)


def test_searches_and_groups_are_put_into_the_graph_by_name(params_file):
    assert select_searches(params_file, ["custom_search"])
    assert load_params(params_file).searches == ("custom_search",)
    with pytest.raises(
        PipelineError, match=r"no search around 'custom_serch' \(did you mean 'custom_search'\?\)"
    ):
        select_searches(params_file, ["custom_serch"])
    select_models(params_file, ["control", "ladder", "ladder1"])
    params = load_params(params_file)
    assert params.models == ("control", *params.groups["ladder"])


def test_a_group_of_unknown_recipes_is_refused(params_file):
    params_file.write_text(params_file.read_text().replace("customs: [custom,", "customs: [custm,"))
    with pytest.raises(
        PipelineError, match=r"no recipe or group 'custm' \(did you mean 'custom'\?\)"
    ):
        load_params(params_file)


@pytest.mark.parametrize("name", ["pipeline", "ladder1", "a-group"])
def test_a_group_has_a_name_of_its_own(params_file, name):
    params_file.write_text(params_file.read_text().replace("  customs: [", f"  {name}: ["))
    with pytest.raises(PipelineError, match=f"{name}"):
        load_params(params_file)


def test_what_was_found_becomes_a_recipe(params_file):
    paper = (
        load_params(params_file)
        .under("paper")
        .recipe("control")
        .model_dump(mode="json", exclude_defaults=True)
    )
    add_recipe(params_file, "found", paper, "found by the search around control: run 123")
    file = params_file.parent / "recipes" / "found.yaml"
    assert file.read_text().startswith("# found by the search around control: run 123\npaper:\n")
    params = load_params(params_file)
    for profile in PROFILES:
        other = params.under(profile)
        assert other.recipe("found") == params.under("paper").recipe("control")
    for name, message in (
        ("found", "there is a recipe 'found' already"),
        ("ladder", "there is a group 'ladder' already"),
        ("No name", "'No name' is not a name; names begin with"),
        ("cnn-9", "'cnn-9' is not a name; names begin with"),
    ):
        with pytest.raises(PipelineError, match=message):
            add_recipe(params_file, name, paper, "again")
    with pytest.raises(PipelineError, match=r"epochs: .*greater than or equal to 1"):
        add_recipe(params_file, "other", paper | {"epochs": 0}, "wrong")
    assert not file.with_name("other.yaml").exists()
