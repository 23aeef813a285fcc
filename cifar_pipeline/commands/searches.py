"""Commands of searches."""

import click

from cifar_pipeline.commands.shared import plain_errors, profile_option
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.paths import Workspace


@click.command()
@click.argument("name")
@profile_option
def search(name: str, profile: str | None) -> None:
    """Search around recipe NAME, on the data that is there; an interrupted search resumes.

    DVC versions the result if params.yaml names the search under `searches`.
    """
    from cifar_pipeline.running import execute
    from cifar_pipeline.settings.editing import restoring, select_profile
    from cifar_pipeline.settings.reading import load_params

    home = Workspace.current()
    with plain_errors(), restoring(home.params):
        load_params(home.params).require_search(name)
        if profile:
            select_profile(home.params, profile)
        params = load_params(home.params)
        click.echo(f"profile {params.profile}, searching around {name}")
        execute(home, f"search_{name}_job", (("search", name),), resume=f"cifar search {name}")
    click.echo(f"  {home.search(name) / 'index.html'}")
    click.echo(f"  `cifar adopt {name} NEW_NAME` makes the winner a recipe")


@click.command()
@click.argument("name")
@click.argument("recipe")
@click.option(
    "--final",
    is_flag=True,
    help="Fit on all training images, for as many epochs as the winner's folds were best after.",
)
def adopt(name: str, recipe: str, final: bool) -> None:
    """Make what the search around NAME found a recipe, recipes/RECIPE.yaml."""
    import yaml

    from cifar_pipeline.artifacts import read_json
    from cifar_pipeline.settings.editing import add_recipe
    from cifar_pipeline.settings.reading import load_params

    home = Workspace.current()
    with plain_errors():
        load_params(home.params).require_search(name)
        if not (home.search(name) / "provenance.json").is_file():
            raise PipelineError(
                f"there is no result of a search around {name} yet; run `cifar search {name}`"
            )
        keys = ("profile", "run", "finished", "train_images", "generated", "final_epochs")
        found = read_json(home.search(name) / "provenance.json", keys)
        if found["generated"]:
            raise PipelineError(
                f"the search around {name} was on generated images, which say nothing; "
                "run it under another profile"
            )
        comment = (
            f"Found by the search around {name}, under the profile {found['profile']}, on "
            f"{found['train_images']:,} training images.\n"
            f"Run {found['run']['id']}, {found['finished']}."
        )
        text = (home.search(name) / "winner.yaml").read_text(encoding="utf-8")
        winner = yaml.safe_load(text)
        if final:
            winner |= {
                "fit_on": "train_and_validation",
                "epochs": found["final_epochs"],
                "early_stopping": None,
                "plateau": None,
            }
        file = add_recipe(home.params, recipe, winner, comment)
    click.echo(
        f"{file} is a new recipe; train it with `cifar run --profile {found['profile']} "
        f"--model {recipe}`"
    )
