import hashlib
import time

import pytest

from cifar_pipeline.errors import PipelineError
from cifar_pipeline.graph.stages import build_stages
from cifar_pipeline.settings.editing import add_recipe, select_models, select_profile
from cifar_pipeline.settings.params import PROFILES, merge
from cifar_pipeline.settings.reading import load_params
from cifar_pipeline.settings.recipe import Recipe
from tests.workspaces import change_yaml


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_of_the_repository_validates(params_file, profile):
    select_profile(params_file, profile)
    params = load_params(params_file)
    assert params.profile == profile
    assert {"cnn9", "efficientnet_b0"} <= set(params.recipes)


def test_paper_recipes_have_the_reports_settings(params_file):
    select_profile(params_file, "paper")
    params = load_params(params_file)
    k1, k2 = params.recipe("cnn9"), params.recipe("efficientnet_b0")
    assert (
        k1.optimizer.name,
        k1.optimizer.learning_rate,
        k1.batch_size,
        k1.epochs,
        k1.early_stopping,
    ) == ("adam", 1e-4, 64, 100, 20)
    assert (
        k1.augmentation.shear,
        k1.augmentation.zoom,
        k1.augmentation.shift_x,
        k1.augmentation.horizontal_flip,
    ) == (0.2, 0.2, 0.1, 0.5)
    assert (
        k2.optimizer.name,
        k2.optimizer.learning_rate,
        k2.batch_size,
        k2.epochs,
        k2.early_stopping,
    ) == ("adam", 1e-4, 8, 15, 10)
    assert (k2.image_size, k2.interpolation, k2.weights, k2.augmentation.order) == (
        224,
        "bicubic",
        "imagenet",
        "resized",
    )
    assert k2.plateau is not None
    assert (k2.plateau.patience, k2.plateau.factor, k2.plateau.minimum) == (5, 0.5, 1e-6)
    assert (params.splits.validation_fraction, params.splits.seed) == (0.2, 123)


def recipe_file(params_file, name):
    return params_file.parent / "recipes" / f"{name}.yaml"


def test_an_unknown_key_is_refused_with_the_nearest_name(params_file):
    change_yaml(
        recipe_file(params_file, "cnn9"), lambda content: content["paper"].update(batch_sise=64)
    )
    with pytest.raises(
        PipelineError, match=r"batch_sise: no such key \(did you mean 'batch_size'\?\)"
    ):
        load_params(params_file)


def test_a_wrong_value_is_named(params_file):
    change_yaml(recipe_file(params_file, "cnn9"), lambda content: content["paper"].update(epochs=0))
    with pytest.raises(PipelineError, match=r"epochs: .*greater than or equal to 1 \(found 0\)"):
        load_params(params_file)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("true", "splits.seed: Input should be a valid integer (found True)"),
        ('"5"', "splits.seed: Input should be a valid integer (found '5')"),
        ("-1", "splits.seed: Input should be greater than or equal to 0 (found -1)"),
        ("4294967296", "splits.seed: Input should be less than 4294967296 (found 4294967296)"),
        (".inf", "splits.seed: Input should be a valid integer (found inf)"),
        ("9" * 5000, "is not YAML in UTF-8: it has a number of 5,000 characters"),
        ("9" * 400, "is not YAML in UTF-8: it has a number of 400 characters"),
        ("0x" + "f" * 6000, "is not YAML in UTF-8: it has a number of 6,002 characters"),
        ('"\\U99999999"', "is not YAML in UTF-8: Python int too large"),
        ('"\\ud800"', "is not YAML in UTF-8: 'utf-8' codec can't encode character"),
        ("!!bool maybe", "is not YAML in UTF-8: 'maybe'"),
        ("{? [[1]] : 1}", "is not YAML in UTF-8: unhashable type: 'list'"),
        ("[" * 3000 + "]" * 3000, "is nested too deeply for settings"),
        ("&a [*a]", "its aliases (`*`) stand for too many values"),
        ("5 # " + "x" * 1_000_000, "1,003,"),
    ],
    ids=[
        *(
            "boolean",
            "text",
            "negative",
            "large",
            "infinite",
            "digits",
            "no float",
            "hexadecimal",
            "escape",
            "surrogate",
        ),
        *("tag", "key", "deep", "endless", "long"),
    ],
)
def test_a_number_is_a_number_and_a_file_of_settings_is_bounded(params_file, written, words):
    text = params_file.read_text(encoding="utf-8")
    params_file.write_text(text.replace("seed: 123", f"seed: {written}"), encoding="utf-8")
    with pytest.raises(PipelineError) as refused:
        load_params(params_file)
    assert words in str(refused.value)


@pytest.mark.parametrize("written", [".nan", "true", ".inf"])
def test_a_fraction_is_a_number(params_file, written):
    text = params_file.read_text(encoding="utf-8")
    key = "validation_fraction: "
    params_file.write_text(text.replace(f"{key}0.2", f"{key}{written}"), encoding="utf-8")
    with pytest.raises(PipelineError, match=r"splits.validation_fraction: Input should be "):
        load_params(params_file)


@pytest.mark.parametrize(
    ("first", "aliases"),
    [
        ("[x, x, x, x, x, x, x, x, x]", "[{}]"),
        ("{x: 1}", "{{<<: [{}]}}"),
        ("!!pairs [x: 1]", "!!pairs [x: [{}]]"),
        ("{? x}", "!!set {{? [{}]}}"),
    ],
    ids=["lists", "merges", "pairs", "keys"],
)
def test_aliases_that_stand_for_millions_of_values_are_refused_at_once(params_file, first, aliases):
    rows = [f"b0: &b0 {first}"]
    rows += [f"b{n}: &b{n} {aliases.format(', '.join([f'*b{n - 1}'] * 9))}" for n in range(1, 12)]
    text = params_file.read_text(encoding="utf-8")
    params_file.write_text(text + "\n".join(rows) + "\n", encoding="utf-8")
    started = time.monotonic()
    with pytest.raises(PipelineError, match="stand for too many values"):
        load_params(params_file)
    assert time.monotonic() - started < 5


def test_an_unknown_choice_is_refused_with_the_nearest_name(params_file):
    change_yaml(
        recipe_file(params_file, "cnn9"),
        lambda content: content["laptop"]["optimizer"].update(name="rmspop"),
    )
    with pytest.raises(
        PipelineError, match=r"optimizer\.name: .*\(found 'rmspop'\) \(did you mean 'rmsprop'\?\)"
    ):
        load_params(params_file)


@pytest.mark.parametrize(
    ("recipe", "change", "message"),
    [
        ("cnn9", {"weights": "imagenet"}, "no pretrained weights for cnn9"),
        ("cnn9", {"freeze_blocks": 2}, "cnn9 has nothing pretrained to freeze"),
        (
            "cnn9",
            {"progressive": [{"size": 16, "epochs": 1, "freeze_batch_norm": True}]},
            "nothing pretrained to freeze",
        ),
        ("cnn9", {"batch_norm_momentum": 0.9}, "cnn9 has no BatchNorm"),
        ("ladder5", {"batch_norm_momentum": 0.9}, "cnn has no BatchNorm"),
        ("efficientnet_b0", {"image_size": 16}, "images of 16 pixels; .* takes 32 or more"),
        ("ladder5", {"image_size": 1}, "images of 1 pixels; cnn takes 2 or more"),
        (
            "ladder5",
            {"early_stopping": None, "progressive": [{"size": 16, "epochs": 1}]},
            "whose dense layers take one image size",
        ),
        (
            "cnn9",
            {"progressive": [{"size": 16, "epochs": 1}]},
            "`early_stopping` with `progressive`",
        ),
        ("cnn9", {"schedule": {"warmup": 0.1}}, "`warmup` with the schedule `constant`"),
        ("cnn9", {"schedule": {"final": 0.1}}, "`final` with a constant rate"),
        ("cnn9", {"schedule": {"restarts": [{"after": 2}]}}, "`restarts` of a constant rate"),
        (
            "cnn9",
            {"schedule": {"name": "cosine", "restarts": [{"after": 3}, {"after": 2}]}},
            "write them in order",
        ),
        (
            "cnn9",
            {"schedule": {"name": "cosine", "restarts": [{"after": 500}]}},
            "a restart after 500 epochs, of 100",
        ),
        (
            "cnn9",
            {"early_stopping": None, "progressive": [{"size": 64, "epochs": 1}]},
            "takes 8 to 32 pixels",
        ),
        (
            "cnn9",
            {"batch_size": 64, "cpu_devices": 3},
            "a `batch_size` of 64 with `cpu_devices: 3`",
        ),
        ("ladder5", {"optimizer": {"part_rates": {"stem": 0.5}}}, "a rate for the `stem` with cnn"),
        ("resnet50", {"freeze_blocks": 1}, "`freeze_blocks` with resnet50"),
        (
            "cnn9",
            {"fit_on": "train_and_validation"},
            "`early_stopping` with `fit_on: train_and_validation`",
        ),
        ("efficientnetv2_b0", {"freeze_blocks": 7}, "efficientnetv2_b0 has 6 blocks"),
        ("cnn9", {"mixing": {"probability": 0.5}}, "set `mixup` or `cutmix`"),
        ("cnn9", {"optimizer": {"weight_decay": 0.1}}, "name it `adamw`"),
        ("cnn9", {"optimizer": {"momentum": 0.9}}, "`momentum` with `adam`"),
        ("cnn9", {"optimizer": {"name": "sgd", "nesterov": True}}, "`nesterov` needs"),
        (
            "efficientnet_b0",
            {"architecture": {"units": 10}},
            r"architecture\.efficientnet_b0\.units: no such key",
        ),
        (
            "efficientnet_b0",
            {"architecture": {"name": "efficientnet_b8"}},
            r"did you mean 'efficientnet_b7'",
        ),
        (
            "efficientnet_b0",
            {"schedule": {"name": "cosine"}},
            "`plateau` with the schedule `cosine`",
        ),
        ("efficientnet_b0", {"progressive": [{"size": 64, "epochs": 1}]}, "which resizes once"),
        (
            "efficientnetv2_b0",
            {"progressive": [{"size": 64, "epochs": 10}]},
            "takes 10 of 10 epochs",
        ),
        (
            "efficientnetv2_b0",
            {"freeze_batch_norm": True, "batch_norm_momentum": 0.9},
            "keep one of them",
        ),
    ],
)
def test_a_contradiction_is_named(params_file, recipe, change, message):
    for name, file in load_params(params_file).recipes.items():
        if file.extends == recipe:
            recipe_file(params_file, name).unlink()

    def contradict(content):
        content["paper"] = merge(content["paper"], change)
        for profile in set(PROFILES) - {"paper"}:
            content.pop(profile, None)

    change_yaml(recipe_file(params_file, recipe), contradict)
    with pytest.raises(PipelineError, match=message):
        load_params(params_file)


def test_a_profile_that_a_recipe_does_not_change_is_not_written(params_file):
    change_yaml(recipe_file(params_file, "cnn9"), lambda content: content.pop("quick"))
    params = load_params(params_file)
    assert params.under("quick").recipe("cnn9") == params.under("paper").recipe("cnn9")


def test_a_recipe_that_extends_another_states_only_how_it_differs(params_file):
    recipe_file(params_file, "own").write_text(
        "extends: cnn9\npaper: {seed: 7, epochs: 50}\nsmoke: {optimizer: {name: adamw}}\n"
    )
    params = load_params(params_file)
    for profile in PROFILES:
        own, base = (params.under(profile).recipe(name) for name in ("own", "cnn9"))
        changes = {"seed": 7, **({"epochs": 50} if profile == "paper" else {})}
        if profile == "smoke":
            changes["optimizer"] = base.optimizer.model_copy(update={"name": "adamw"})
        if profile in ("quick", "best", "laptop"):  # which set the epochs themselves
            assert own.epochs == base.epochs
        assert own == base.model_copy(update=changes)


def test_a_recipe_that_repeats_another_with_another_seed_is_known(params_file):
    recipe_file(params_file, "again").write_text("extends: cnn9\npaper: {seed: 7}\n")
    recipe_file(params_file, "once_more").write_text("extends: again\npaper: {seed: 8}\n")
    recipe_file(params_file, "other").write_text("extends: cnn9\npaper: {seed: 7, epochs: 50}\n")
    select_profile(params_file, "paper")
    params = load_params(params_file)
    names = ("cnn9", "again", "once_more", "other", "ladder2")
    assert [params.without_seed(name) for name in names] == [
        *("cnn9", "cnn9", "cnn9"),
        *("other", "ladder2"),
    ]


def test_recipes_that_extend_each_other_are_refused(params_file):
    recipe_file(params_file, "one").write_text("extends: two\n")
    recipe_file(params_file, "two").write_text("extends: one\n")
    with pytest.raises(PipelineError, match="one extends two extends one"):
        load_params(params_file)


def test_a_recipe_that_extends_nothing_known_is_refused(params_file):
    recipe_file(params_file, "own").write_text("extends: cnn\n")
    with pytest.raises(PipelineError, match=r"no recipe or group 'cnn' \(did you mean 'cnn9'\?\)"):
        load_params(params_file)


@pytest.mark.parametrize(
    "name", ["$(touch here)", ".", "a@b", "${item}", "Cnn", "9", "a-b", "a b", "ü", "a\nb"]
)
def test_names_follow_one_pattern_wherever_they_come_from(params_file, name):
    """They become file names, job names and part of a shell command."""
    before = load_params(params_file)
    for change in (
        {"models": [name]},
        {"searches": [name]},
        {"groups": {name: ["cnn9"]}},
        {"groups": {"mine": [name]}},
        {"ensembles": {name: {"members": ["cnn9", "control"]}}},
        {"ensembles": {"mine": {"members": ["cnn9", name]}}},
    ):
        content = params_file.read_text()
        change_yaml(params_file, lambda found, change=change: found.update(change))
        with pytest.raises(PipelineError, match="is not a name"):
            load_params(params_file)
        params_file.write_text(content)
    recipe_file(params_file, name).write_text("extends: cnn9\n")
    if name == ".":  # a hidden file, which is not a recipe
        assert load_params(params_file) == before
    else:
        with pytest.raises(PipelineError, match="is not a name"):
            load_params(params_file)
    recipe_file(params_file, name).unlink()
    with pytest.raises(PipelineError, match="is not a name"):
        add_recipe(params_file, name, {}, "own")
    assert load_params(params_file) == before


@pytest.mark.parametrize("file", ["params.yaml", "recipes/cnn9.yaml"])
def test_a_repeated_key_is_refused(params_file, file):
    path = params_file.parent / file
    key = "profile" if file == "params.yaml" else "laptop"
    path.write_text(path.read_text() + f"{key}: quick\n")
    with pytest.raises(PipelineError, match=rf'found duplicate key "{key}".*write each key once'):
        load_params(params_file)


@pytest.mark.parametrize("content", ["", "profile: [", "- a list"])
def test_a_file_that_holds_no_settings_is_one_message(params_file, content):
    params_file.write_text(content)
    with pytest.raises(PipelineError, match=r"params\.yaml"):
        load_params(params_file)


def test_selecting_a_profile_changes_one_line(params_file):
    before = params_file.read_text()
    assert select_profile(params_file, "smoke")
    assert not select_profile(params_file, "smoke")
    assert params_file.read_text() == before.replace("profile: quick", "profile: smoke", 1)
    with pytest.raises(PipelineError, match="did you mean 'smoke'"):
        select_profile(params_file, "smok")


def test_choosing_models_changes_one_line(params_file):
    before = params_file.read_text()
    assert select_models(params_file, ["efficientnetv2_b0", "cnn9"])
    assert params_file.read_text() == before.replace(
        "models: [cnn9, efficientnet_b0]", "models: [efficientnetv2_b0, cnn9]", 1
    )
    assert load_params(params_file).models == ("efficientnetv2_b0", "cnn9")
    with pytest.raises(PipelineError, match="did you mean 'cnn9'"):
        select_models(params_file, ["cnn"])


def test_a_model_without_a_recipe_is_refused(params_file):
    change_yaml(params_file, lambda content: content.update(models=["cnn8"]))
    with pytest.raises(PipelineError, match=r"no recipe or group 'cnn8' .*did you mean 'cnn9'"):
        load_params(params_file)


def test_what_a_step_does_not_say_is_as_the_recipe_has_it(params_file):
    select_profile(params_file, "laptop")
    params = load_params(params_file)
    phases = {
        name: [
            (phase.size, phase.freeze_batch_norm, phase.freeze_blocks)
            for phase in map(params.recipe(name).phase_at, range(epochs))
        ]
        for name, epochs in (("efficientnet_b0", 7), ("efficientnetv2_b0", 10))
    }
    assert (
        phases["efficientnet_b0"] == [(96, True, 2)] + [(128, True, 3)] * 3 + [(160, True, 3)] * 3
    )
    assert (
        phases["efficientnetv2_b0"]
        == [(64, True, 2)] * 2 + [(96, True, 2)] * 4 + [(128, True, 3)] * 4
    )


def test_a_recipe_of_endless_epochs_is_read_at_once(params_file):
    """It was walked through epoch by epoch."""
    change_yaml(
        recipe_file(params_file, "cnn9"), lambda content: content["paper"].update(epochs=10**15)
    )
    started = time.monotonic()
    assert load_params(params_file).under("paper").recipe("cnn9").epochs == 10**15
    assert time.monotonic() - started < 10


def test_a_step_that_no_epoch_reaches_is_no_phase(params_file):
    base = load_params(params_file).under("laptop").recipe("cnn9")
    written = base.model_dump() | {"epochs": 5, "image_size": 32}
    steps = [{"size": 8, "epochs": 2}, {"size": 16, "epochs": 1}]
    recipe = Recipe.model_validate(written | {"progressive": steps})
    assert [phase.size for phase in recipe.phases] == [8, 16, 32]
    assert [phase.size for phase in map(recipe.phase_at, range(5))] == [8, 8, 16, 32, 32]
    shorter = recipe.model_copy(update={"epochs": 2})
    assert [phase.size for phase in shorter.phases] == [8]


def test_environment_replaces_address_and_weights(params_file, monkeypatch):
    monkeypatch.setenv("CIFAR_ARCHIVE", "/mirror/archive.tar.gz")
    monkeypatch.setenv("CIFAR_ARCHIVE_SHA256", "AB" * 32)
    monkeypatch.setenv("CIFAR_WEIGHTS_EFFICIENTNET_B0", "/weights.h5")
    monkeypatch.setenv("CIFAR_WEIGHTS_CNN9", "/never.h5")
    params = load_params(params_file)
    assert (params.source().url, params.source().sha256) == ("/mirror/archive.tar.gz", "ab" * 32)
    assert params.recipe("efficientnet_b0").weights == "/weights.h5"
    assert params.recipe("cnn9").weights == "none"  # it asked for none


def test_paths_are_the_checkouts_wherever_the_user_stands(params_file, monkeypatch, tmp_path):
    params = load_params(params_file).under("quick")
    monkeypatch.setenv("CIFAR_ROOT", str(tmp_path))
    monkeypatch.setenv("CIFAR_ARCHIVE", "../copy.tar.gz")
    monkeypatch.setenv("CIFAR_WEIGHTS_EFFICIENTNET_B0", "weights/b0.h5")
    for folder in (tmp_path, tmp_path.parent):
        monkeypatch.chdir(folder)
        assert params.source().url == f"{tmp_path}/../copy.tar.gz"
        assert params.recipe("efficientnet_b0").weights == f"{tmp_path}/weights/b0.h5"


def test_weights_are_named_by_architecture_for_every_seed(params_file, monkeypatch):
    recipe_file(params_file, "other").write_text("extends: efficientnet_b0\n")
    monkeypatch.setenv("CIFAR_WEIGHTS_EFFICIENTNET_B0", "/some/file.h5")
    params = load_params(params_file).under("quick")
    assert (
        params.recipe("other").weights
        == params.recipe("efficientnet_b0").weights
        == "/some/file.h5"
    )


def test_floors_are_the_recipes_own_or_the_default(params_file):
    params = load_params(params_file).under("quick")
    assert (
        params.floor("cnn9")
        == params.floors["quick"]["cnn9"]
        > params.floor("cnn9_seed7")
        == params.floors["quick"]["default"]
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("laptop:\n    default: 0.1\n", "laptop:\n", "floors.laptop.default is missing; write 0.0"),
        (
            "smoke: {default: 0.0, cnn9:",
            "smoke: {default: 0.0, cnn8:",
            r"floors names the recipe 'cnn8' \(did you mean 'cnn9'\?\)",
        ),
        ("lists: {}", "lists: {duplicates: {path: a, sha256: b}}", "give the list another name"),
        ("lists: {}", "lists: {cifair: a}", "test_subsets.lists.cifair"),
    ],
)
def test_floors_and_lists_are_checked(params_file, old, new, message):
    text = params_file.read_text()
    assert old in text
    params_file.write_text(text.replace(old, new))
    with pytest.raises(PipelineError, match=message):
        load_params(params_file)


@pytest.mark.parametrize(
    ("ensembles", "message"),
    [
        (
            {"one": {"members": ["cnn9"]}},
            "ensembles.one: the only member is 'cnn9', which is on the leaderboard already",
        ),
        ({"twice": {"members": ["cnn9", "cnn9"]}}, "has one of them twice"),
        ({"none": {"members": []}}, "at least 1 item"),
        (
            {"typo": {"members": ["cnn9", "efficientnet_b"]}},
            "efficientnet_b.*did you mean 'efficientnet_b0'",
        ),
        (
            {"mixed": {"members": ["ladder1", "ladder1_coarse"]}},
            "ensembles.mixed has members of the 100 classes and of the 20 superclasses",
        ),
        (
            {"cnn9": {"members": ["ladder1", "ladder2"]}},
            "'cnn9' is a recipe; give the ensemble another name",
        ),
    ],
)
def test_an_ensemble_that_makes_no_sense_is_refused(params_file, ensembles, message):
    change_yaml(params_file, lambda content: content.update(ensembles=ensembles))
    with pytest.raises(PipelineError, match=message):
        load_params(params_file)


def test_the_weights_of_a_recipe_are_read_from_one_folder(params_file, monkeypatch, tmp_path):
    """A relative path means the same wherever the user stands."""
    monkeypatch.setenv("CIFAR_ROOT", str(params_file.parent))
    (params_file.parent / "own.h5").write_bytes(b"weights")
    change_yaml(
        recipe_file(params_file, "efficientnet_b0"),
        lambda content: content["quick"].update(weights="own.h5"),
    )
    expected = str(params_file.parent / "own.h5")
    for folder in (params_file.parent, tmp_path / "elsewhere"):
        folder.mkdir(exist_ok=True)
        monkeypatch.chdir(folder)
        params = load_params(params_file)
        assert params.recipe("efficientnet_b0").weights == expected
        settings = build_stages(params)["model", "efficientnet_b0"].settings["recipe"]
        assert settings["weights"]["sha256"] == hashlib.sha256(b"weights").hexdigest()
