"""What happens around the body of an asset: inputs, settings, checks, and what is recorded."""

import re
from pathlib import Path

import dagster as dg
import pytest
import yaml

from cifar_pipeline.artifacts import dvc_md5
from cifar_pipeline.checks import Check
from cifar_pipeline.definitions import build_defs
from cifar_pipeline.defs.resources import Pipeline, asset_settings, check_specs
from cifar_pipeline.defs.steps import Step
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.graph.plan import write_plan
from cifar_pipeline.graph.stages import build_stages
from cifar_pipeline.graph.status import reasons_to_run, record_plan
from cifar_pipeline.graph.versioning import (
    commit_stages,
    recorded_dependencies,
    recorded_outputs,
    recorded_stages,
)
from cifar_pipeline.settings.editing import select_models, select_profile
from cifar_pipeline.settings.params import PROFILES
from cifar_pipeline.settings.reading import load_params
from tests.workspaces import change_yaml

pytestmark = pytest.mark.xdist_group("recorded")  # they share a checkout
MODEL = ("model", "cnn9")


def stage_of(home, *key):
    return build_stages(load_params(home.params))[key]


def begin(home, *key):
    return Step.begin(dg.build_asset_context(), stage_of(home, *key))


def made(stage, body, checks=()):
    """What Dagster makes of an asset with this body, in this process."""

    @dg.asset(
        **asset_settings(stage, "models"),
        check_specs=check_specs(stage, {check.name: "It has to hold." for check in checks}),
    )
    def thing(context, pipeline: Pipeline):
        with pipeline.step(context, stage) as step:
            body(step)
            yield from step.finish(checks)

    return dg.materialize([thing], resources={"pipeline": Pipeline()}, raise_on_error=False)


def words_of(result):
    """Why the step failed, as the terminal and the UI have it."""
    assert not result.success
    (event,) = result.filter_events(lambda event: event.is_step_failure)
    data = event.step_failure_data
    assert data.user_failure_data, data.error
    return data.user_failure_data.description


def write_model(home, text="new"):
    """A body that writes a model of a few bytes."""

    def body(step):
        folder = step.staged(home.model("cnn9"))
        folder.mkdir()
        for name in ("model.keras", "labels.json"):
            (folder / name).write_text(text)

    return body


def shorten(home, epochs=2):
    """Change a setting of one recipe's training."""
    recipe = home.root / "recipes" / "cnn9.yaml"
    change_yaml(recipe, lambda content: content["smoke"].update(epochs=epochs))


def leftovers(home):
    return list(home.data.rglob(".part.*"))


@pytest.mark.parametrize(
    ("key", "path"),
    [
        (("table",), "data/raw/cifar-100-python.tar.gz"),
        (("splits",), "data/table/cifar100.parquet"),
        (("test_subsets",), "data/table/cifar100.parquet"),
        (("search", "custom_search"), "data/splits/splits.parquet"),
        (MODEL, "data/splits/splits.parquet"),
        (("predictions", "cnn9"), "data/models/cnn9/model.keras"),
        (("report", "cnn9"), "data/predictions/cnn9.parquet"),
        (("report", "cnn9"), "data/models/cnn9/labels.json"),
        (("leaderboard",), "data/predictions/efficientnet_b0.parquet"),
        (("ledger",), "data/reports/cnn9/metrics.json"),
    ],
)
def test_a_flipped_byte_in_an_input_stops_the_step(home, key, path):
    begin(home, *key)
    file = home.root / path
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(PipelineError, match=r"changed since `.*` made it.*Run `dvc checkout"):
        begin(home, *key)


def test_an_edit_before_the_step_begins_is_refused(home):
    shorten(home)
    with pytest.raises(PipelineError, match=r"the settings or the code of `model/cnn9` changed"):
        begin(home, *MODEL)
    begin(home, "predictions", "cnn9")  # it does not read the recipe
    select_profile(home.params, "quick")
    for key in (MODEL, ("archive",), ("leaderboard",)):
        with pytest.raises(PipelineError, match="changed after this run had planned its steps"):
            begin(home, *key)


def test_a_model_that_was_taken_out_of_the_graph_is_refused(home):
    stage = stage_of(home, *MODEL)
    select_models(home.params, ["efficientnet_b0"])
    with pytest.raises(PipelineError, match="'cnn9' was taken out of the graph"):
        Step.begin(dg.build_asset_context(), stage)


def test_an_edit_during_the_step_is_not_recorded_with_what_it_made(home):
    """dvc.lock says what the model was made with, and it is stale afterwards."""
    plan = home.plan(MODEL)
    planned = dvc_md5(plan)

    def body(step):
        write_model(home)(step)
        shorten(home)
        select_profile(home.params, "quick")
        assert step.params.profile == "smoke"
        assert step.params.recipe("cnn9").epochs == 6

    assert made(stage_of(home, *MODEL), body).success
    assert recorded_outputs(home)["data/models/cnn9"] == dvc_md5(home.model("cnn9"))
    dependencies = recorded_dependencies(home, "model@cnn9")
    assert dependencies[plan.relative_to(home.root).as_posix()] == planned
    select_profile(home.params, "smoke")
    params = load_params(home.params)
    record_plan(params, home)
    assert reasons_to_run(params, home)[MODEL] == ["settings changed: recipe.epochs"]


def test_photographs_that_are_not_there_are_named(home):
    change_yaml(home.params, lambda found: found.update(photographs=["holiday"]))
    params = load_params(home.params)
    record_plan(params, home)
    why = ["not made yet", "data/photographs/holiday is missing, and no stage makes it"]
    assert reasons_to_run(params, home)["photo_predictions", "holiday"] == why


@pytest.mark.parametrize("edit", [shorten, lambda home: select_profile(home.params, "quick")])
def test_a_plan_that_changed_during_the_step_is_refused(home, edit):
    """As `cifar status`, or another run, leaves it."""
    before, recorded = dvc_md5(home.model("cnn9")), recorded_dependencies(home, "model@cnn9")

    def body(step):
        write_model(home)(step)
        edit(home)
        write_plan(load_params(home.params), home)

    said = words_of(made(stage_of(home, *MODEL), body))
    assert "changed after this run had planned its steps" in said
    assert dvc_md5(home.model("cnn9")) == before
    assert recorded_dependencies(home, "model@cnn9") == recorded
    assert leftovers(home) == []


def test_an_input_that_was_made_anew_during_the_step_is_refused(home):
    before = dvc_md5(home.model("cnn9"))

    def body(step):
        write_model(home)(step)
        home.splits.write_text("others")
        commit_stages(home, "splits")

    said = words_of(made(stage_of(home, *MODEL), body))
    assert "an input of `model/cnn9` was made anew while it ran" in said
    assert dvc_md5(home.model("cnn9")) == before


def test_what_fails_a_blocking_check_is_not_there_for_the_next_step(home):
    before, lock = dvc_md5(home.model("cnn9")), (home.root / "dvc.lock").read_text()
    check = Check(
        "finite_weights",
        False,
        {"not_finite": 3},
        found="3 of 10 weights that are not finite",
        limit="none",
        repair="Lower the learning rate",
    )
    stage = stage_of(home, *MODEL)
    result = made(stage, write_model(home, "bad"), [check])
    assert words_of(result) == (
        "finite_weights: It has to hold. Found 3 of 10 weights that are not finite, expected none. "
        "Lower the learning rate."
    )
    (evaluation,) = result.get_asset_check_evaluations()
    assert not evaluation.passed
    shown = {key: value.value for key, value in evaluation.metadata.items()}
    assert shown == {
        "found": "3 of 10 weights that are not finite",
        "expected": "none",
        "repair": "Lower the learning rate",
        "not_finite": 3,
    }
    assert dvc_md5(home.model("cnn9")) == before  # the good one of before
    assert (home.root / "dvc.lock").read_text() == lock
    assert leftovers(home) == []


def test_a_full_disk_is_named_and_replaces_nothing(home):
    before = dvc_md5(home.model("cnn9"))

    def body(step):
        write_model(home)(step)
        Path("/dev/full").write_text("as on a full disk")

    assert words_of(made(stage_of(home, *MODEL), body)) == (
        "No space left on device; free some space, and start again. Nothing was replaced"
    )
    assert dvc_md5(home.model("cnn9")) == before
    assert leftovers(home) == []


def test_what_failed_on_its_first_run_cannot_be_predicted_from(home):
    for path in home.model("cnn9").iterdir():
        path.unlink()
    home.model("cnn9").rmdir()
    made(stage_of(home, *MODEL), write_model(home), [Check("finite_weights", False)])
    assert not home.model("cnn9").exists()
    with pytest.raises(PipelineError, match=r"models/cnn9 is missing; materialize `model/cnn9`"):
        begin(home, "predictions", "cnn9")


def test_a_check_that_only_reports_a_fact_keeps_what_was_made(home):
    result = made(
        stage_of(home, *MODEL), write_model(home), [Check("above_floor", False, found="5.0%")]
    )
    assert result.success
    assert (home.model("cnn9") / "model.keras").read_text() == "new"


def test_a_refused_table_does_not_replace_the_good_one(home):
    change_yaml(
        home.params, lambda content: content["sources"]["generated"].update(train_per_class=21)
    )
    params = load_params(home.params)
    write_plan(params, home)
    before, lock = dvc_md5(home.table), (home.root / "dvc.lock").read_text()
    (table,) = [
        assets
        for assets in build_defs(params).assets
        if isinstance(assets, dg.AssetsDefinition) and dg.AssetKey("table") in assets.keys
    ]
    said = words_of(
        dg.materialize([table], resources={"pipeline": Pipeline()}, raise_on_error=False)
    )
    assert re.search(r"counts: There are as many training and test rows .*Found .*2,?000", said)
    assert re.search(r"expected .*2,?100", said)
    assert dvc_md5(home.table) == before
    assert (home.root / "dvc.lock").read_text() == lock
    assert leftovers(home) == []


def test_a_retraining_that_ends_in_the_same_weights_stales_nothing_that_reads_only_them(home):
    def body(step):
        folder = step.staged(home.model("cnn9"))
        folder.mkdir()
        for name in ("model.keras", "labels.json"):
            (folder / name).write_bytes((home.model("cnn9") / name).read_bytes())
        (folder / "history.csv").write_text("other seconds\n")

    assert made(stage_of(home, *MODEL), body).success
    stale = set(reasons_to_run(load_params(home.params), home))
    assert ("report", "cnn9") in stale  # it shows the seconds
    assert ("predictions", "cnn9") not in stale


def test_a_search_outside_dvc_is_kept_and_not_recorded(home):
    def body(step):
        folder = step.staged(home.search("custom_search"))
        folder.mkdir(parents=True)
        (folder / "winner.yaml").write_text("found\n")

    params = home.params.read_bytes()
    assert made(stage_of(home, "search", "custom_search"), body).success
    assert (home.search("custom_search") / "winner.yaml").read_text() == "found\n"
    assert "search@custom_search" not in recorded_stages(home)
    assert home.params.read_bytes() == params


def test_data_versions_and_metadata_tell_what_was_made(home):
    result = made(stage_of(home, *MODEL), write_model(home))
    (event,) = result.get_asset_materialization_events()
    materialization = event.step_materialization_data.materialization
    assert materialization.tags["dagster/data_version"] == dvc_md5(home.model("cnn9"))
    shown = {key: value.value for key, value in materialization.metadata.items()}
    assert shown["profile"] == "smoke"
    assert shown["generated images"] is True


def test_generated_images_are_told_by_the_data_and_not_by_the_profile(home):
    """A model alone, made after the profile was changed and before the data was."""
    select_profile(home.params, "quick")
    record_plan(load_params(home.params), home)
    result = made(stage_of(home, *MODEL), write_model(home))
    (event,) = result.get_asset_materialization_events()
    shown = event.step_materialization_data.materialization.metadata
    assert shown["profile"].value == "quick"
    assert shown["generated images"].value is True


def test_the_launchpad_offers_the_profiles_and_refuses_other_names(home):
    job = build_defs(load_params(home.params)).resolve_job_def("pipeline")
    offered = job.run_config_schema.config_type_dict_by_name["ProfileName"].config_values
    assert sorted(offered) == sorted(PROFILES)
    config = {"resources": {"pipeline": {"config": {"profile": "smok"}}}}
    with pytest.raises(dg.DagsterInvalidConfigError, match="smok"):
        dg.validate_run_config(job, config)
    assert yaml.safe_load(home.params.read_text())["profile"] == "smoke"
