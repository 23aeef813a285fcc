"""The command that shares a model."""

from pathlib import Path

import click

from cifar_pipeline.commands.shared import plain_errors
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.paths import Workspace


@click.command()
@click.argument("model")
@click.argument("repository", required=False)
@click.option(
    "--dry-run",
    "folder",
    type=click.Path(path_type=Path),
    help="Write what would be uploaded to this folder; nothing goes over the network.",
)
@click.option("--licence", help="Of the weights, such as apache-2.0, for the card.")
@click.option("--public", is_flag=True, help="Let everybody see a repository that is made new.")
def publish(
    model: str, repository: str | None, folder: Path | None, licence: str | None, public: bool
) -> None:
    """Upload MODEL, its export, its labels and its card to REPOSITORY on Hugging Face."""
    from tempfile import TemporaryDirectory

    from cifar_pipeline.publishing import assemble, check_repository, push
    from cifar_pipeline.settings.reading import load_params

    home = Workspace.current()
    with plain_errors(), TemporaryDirectory() as temporary:
        load_params(home.params).require_recipe(model)
        if not (repository or folder):
            raise PipelineError("name the repository, as OWNER/NAME, or a folder for --dry-run")
        if repository:
            check_repository(repository)
        target = folder or Path(temporary, model)
        for file in assemble(model, home, target, licence):
            click.echo(f"  {file.name:20} {file.stat().st_size:>12,} bytes")
        if folder:
            click.echo(f"written to {folder}; nothing was uploaded")
        elif repository:
            click.echo(f"uploaded: {push(target, repository, private=not public)}")
