"""What several commands share."""

import socket
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


def require_port(host: str, port: int) -> None:
    """Check that a server can listen at an address, so that the refusal is ours to word.

    Raises: PipelineError when it cannot.
    """
    try:
        family, kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
            tried.bind(address)
    except OSError as error:
        raise PipelineError(
            f"nothing can listen at {host}:{port} ({error.strerror}); choose another port with "
            "--port, or another address with --host"
        ) from None
