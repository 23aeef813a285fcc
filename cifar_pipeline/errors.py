"""The one exception that a user can cause.

Its message says what was found, what was expected and how to repair it.
"""


class PipelineError(Exception):
    """A bad input, setting or environment; users see its message alone, without a traceback."""


class DivergedError(PipelineError):
    """A training whose loss is no longer finite: its settings are at fault, and nothing else."""
