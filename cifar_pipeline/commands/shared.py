"""What several commands share."""

from collections.abc import Iterator
from contextlib import contextmanager

import click

from cifar_pipeline.errors import PipelineError, refusals_in_words

profile_option = click.option(
    "--profile", help="Such as smoke, quick or laptop. Default: the one in params.yaml."
)


@contextmanager
def plain_errors() -> Iterator[None]:
    """Show a user's mistake as its message alone."""
    try:
        with refusals_in_words():
            yield
    except PipelineError as error:
        raise click.ClickException(str(error)) from None
