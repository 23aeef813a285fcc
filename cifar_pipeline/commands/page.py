"""The command that serves the page."""

from contextlib import suppress

import click

from cifar_pipeline.commands.shared import plain_errors, require_port


@click.command()
@click.option("--host", default="localhost", show_default=True, help="0.0.0.0 for any machine.")
@click.option("--port", default=8501, show_default=True, type=click.IntRange(0, 65535))
@click.option("--open", "open_browser", is_flag=True, help="Show it in the browser.")
def app(host: str, port: int, open_browser: bool) -> None:
    """A page: models on your photographs, the test split, the leaderboard."""
    from cifar_pipeline.app.server import serve

    with plain_errors(), suppress(KeyboardInterrupt):  # which is how one ends it
        require_port(host, port)
        serve(host, port, open_browser=open_browser)
