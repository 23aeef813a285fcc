"""What a run says in a terminal, behind every door: steps and the words of failures.

Dagster's own console log has a line for every event, and stack traces for a user's mistakes. All of
that is in the instance, for the UI to show; the terminal has these lines and the steps' progress.
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg
from dagster._core.executor.child_process_executor import ChildProcessCrashException

DETAIL = "| "
"""How the lines begin that are for a log rather than for a person."""

QUIET: dict[str, Any] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
"""Run config under which Dagster's console log says nothing."""


def lines_of(event: Any) -> Iterator[str]:
    """The lines that an event of a run puts on the terminal."""
    name = (event.step_key or "").replace("__", "/", 1)
    match event.event_type:
        case dg.DagsterEventType.STEP_START:
            yield f"{name}: started"
        case dg.DagsterEventType.STEP_SUCCESS:
            seconds = event.event_specific_data.duration_ms / 1000
            yield f"{name}: done in {_duration(seconds)}"
        case dg.DagsterEventType.STEP_SKIPPED:
            yield f"{name}: skipped"
        case dg.DagsterEventType.STEP_FAILURE:
            yield from _failure(name, event.step_failure_data)


def _failure(name: str, data: Any) -> Iterator[str]:
    """A user's mistake in words; anything else with its stack trace, as details."""
    if data.error and data.error.cls_name == ChildProcessCrashException.__name__:
        yield (
            f"{name}: failed: its process was killed, as when the machine has run out of memory; "
            "start again, and it goes on from where it was"
        )
        return
    if data.error and data.error.cls_name == dg.DagsterExecutionInterruptedError.__name__:
        yield f"{name}: interrupted"
        return
    if data.user_failure_data and data.user_failure_data.description:
        words = data.user_failure_data.description
    else:
        error = data.error
        while error and error.cause:
            error = error.cause
        words = error.message.strip() if error else "no reason is known"
        trace = data.error.to_string().splitlines() if data.error else []
        yield from (f"{DETAIL}{line}" for line in trace)
    first, *rest = words.splitlines()
    yield f"{name}: failed: {first}"
    yield from (f"  {line}" for line in rest)


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.1f} min"
