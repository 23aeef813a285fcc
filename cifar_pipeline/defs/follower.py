"""What a step tells trackers, whatever kind of step it is.

A tracker is never a reason for a step to fail or to wait, but for `wait_s` seconds at its end.
Nothing here decides an artefact, and the bodies of the assets do not know it: whether a model is
stale does not depend on who looked on.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, Self, TypeVar, cast

import dagster as dg

from cifar_pipeline.graph.stages import Stage
from cifar_pipeline.paths import Workspace
from cifar_pipeline.saying import say
from cifar_pipeline.settings.params import Params
from cifar_pipeline.tracking.events import Status
from cifar_pipeline.tracking.outbox import About, Outbox
from cifar_pipeline.tracking.session import RUNS, Session, new_key
from cifar_pipeline.tracking.trackers import TITLES

Method = TypeVar("Method", bound=Callable[..., None])
ABANDONED_WAIT_S = 3.0
"""A step that fails or is interrupted has no time."""


def _harmless(method: Method) -> Method:
    """A method whose failure is told once, and ends the following instead of the step."""

    @functools.wraps(method)
    def tried(self: "Follower", *args: Any) -> None:
        if self.is_on:
            try:
                method(self, *args)
            except Exception as error:  # a full disk, a folder that is gone, a mistake of ours
                self.give_up(error)

    return cast(Method, tried)


class Follower:
    """Tells the trackers that params.yaml names of one step. This one has nothing to tell.

    Args:
        inputs: md5 of each input, by its path in the workspace.
    """

    follows = False

    def __init__(
        self,
        home: Workspace,
        params: Params,
        stage: Stage,
        context: dg.AssetExecutionContext,
        inputs: Mapping[str, str],
    ) -> None:
        self._home, self._params, self._stage, self._context = home, params, stage, context
        self._inputs, self._name = dict(inputs), stage.key[-1]
        self._runs = home.tracking / RUNS
        self._trackers = {
            name: settings.model_dump(mode="json")
            for name, settings in params.tracking.chosen.items()
        }
        self._session: Session | None = None
        self.is_on = self.follows and bool(self._trackers)
        self.shown: dict[str, str] = {}
        """what each tracker has at the end, for the asset's metadata"""

    @_harmless
    def begin(self) -> None:
        """The step begins."""
        self._begin()

    @_harmless
    def epoch(self, record: Mapping[str, float | None]) -> None:
        """An epoch of the training has ended."""
        self._epoch(record)

    @_harmless
    def trial(self, figures: Mapping[str, Any]) -> None:
        """A trial of the search has ended."""
        self._trial(figures)

    @_harmless
    def finish(self, metadata: Mapping[str, Any]) -> None:
        """The asset has been made and recorded; `metadata` holds its figures."""
        self._finish(metadata)
        self._close(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind:
            self.abandon("failed" if issubclass(kind, Exception) else "stopped")

    @_harmless
    def abandon(self, status: Status) -> None:
        """The step ends without an asset."""
        self._abandon(status)
        self._close(ABANDONED_WAIT_S)

    def give_up(self, error: Exception) -> None:
        """Leave the step alone."""
        words = f"trackers are told nothing more of this step: {type(error).__name__}: {error}"
        self.is_on, self.shown = False, {"tracked": words}
        self._tell(words)
        if self._session:
            self._session.close(0)

    def _begin(self) -> None: ...
    def _epoch(self, record: Mapping[str, float | None]) -> None: ...
    def _trial(self, figures: Mapping[str, Any]) -> None: ...
    def _finish(self, metadata: Mapping[str, Any]) -> None: ...
    def _abandon(self, status: Status) -> None: ...

    @property
    def _title(self) -> str:
        return f"{self._name}, {self._params.profile}"

    def _created(self, asset: str, run: str) -> Outbox:
        profile = self._params.profile
        about = About(new_key(), asset, self._name, profile, self._trackers, (run,))
        return Outbox.create(self._runs, about)

    def _connected(self, outbox: Outbox) -> Session:
        self._session = Session(outbox, self._params.tracking.wait_s, self._tell)
        return self._session

    def _close(self, wait_s: float | None) -> None:
        self.is_on = False
        if self._session:
            said = self._session.close(wait_s)
            self.shown = {f"tracked by {TITLES[name]}": words for name, words in said.items()}

    def _tell(self, line: str) -> None:
        self._context.log.warning(line)
        say(line)
