"""Lines on stderr about work that would otherwise be silent for a minute or more."""

from time import monotonic

from cifar_pipeline.saying import say

LINE_EVERY_S = 5.0


class Steps:
    """Says what is being done, how far it is, how long the rest takes, and that it is done.

    Args:
        what: the work in words, such as `predicting 10,000 test images`; it begins every line.
        total: the number of steps.
    """

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total, self._done = what, total, 0
        self._start = self._last_line = monotonic()
        self._after_first = self._start
        say(f"{what}, {total} {'step' if total == 1 else 'steps'}")

    def finish_one(self) -> None:
        """Count one finished step; print a line if the last one is `LINE_EVERY_S` old."""
        now = monotonic()
        self._done += 1
        if self._done == self._total:
            say(f"{self._what}: done in {now - self._start:.0f} s")
        elif self._done == 1:
            # The first step also pays for tracing and loading, so the estimate begins after it.
            self._after_first = now
        elif now - self._last_line >= LINE_EVERY_S:
            self._last_line = now
            each = (now - self._after_first) / (self._done - 1)
            left = duration(each * (self._total - self._done))
            say(f"{self._what}: step {self._done} of {self._total}, about {left} left")


def duration(seconds: float) -> str:
    """Seconds up to two minutes, whole minutes above."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
