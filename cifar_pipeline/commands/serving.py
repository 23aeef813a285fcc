"""The command that answers over HTTP."""

from pathlib import Path

import click

from cifar_pipeline.commands.shared import plain_errors, require_port
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.paths import Workspace


@click.command()
@click.option("--model", help="An exported model. Default: the best by validation accuracy.")
@click.option(
    "--file",
    type=click.Path(path_type=Path),
    help="An exported file from anywhere, such as model.onnx, in place of --model.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="0.0.0.0 lets the whole network ask; there is no log-in.",
)
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535))
def serve(model: str | None, file: Path | None, host: str, port: int) -> None:
    """Answer over HTTP: POST /predict, and /docs in a browser."""
    from cifar_pipeline.serving.choice import choose_model, outdated
    from cifar_pipeline.serving.exported import ExportedModel

    if model and file:
        raise click.UsageError("--model and --file are two ways to say the same; name one")
    with plain_errors():
        require_port(host, port)
        try:
            import uvicorn

            from cifar_pipeline.serving.endpoint import create_app
        except ModuleNotFoundError as error:
            raise PipelineError(
                f"serving needs {error.name}; run `pip install 'cifar-pipeline[serve]'`"
            ) from None
        if file:
            exported = ExportedModel(file)
        else:
            home = Workspace.current()
            choice = choose_model(home, model)
            exported = ExportedModel(choice.file)
            if choice.why:
                click.echo(f"model {choice.name}, {choice.why}", err=True)
            if problem := outdated(home, exported):
                click.echo(f"warning: {problem}", err=True)
        app = create_app(exported)
    # Its own words about the address are on stderr.
    uvicorn.run(app, host=host, port=port, timeout_keep_alive=5, server_header=False)
