"""What a check found, and how a failed one is reported."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Check:
    """One finding: what was looked at, whether it holds, and the figures behind it.

    Args:
        name: identifies the check; its description stands in the asset's check spec.
        passed: whether what was found is within the limit.
        details: figures for the Checks tab, as JSON values.
        found: what was found, in words and with a unit, without a full stop.
        limit: what was expected of it, likewise.
        repair: what the user should do when the check fails, as whole sentences.
    """

    name: str
    passed: bool
    details: dict[str, Any] = field(default_factory=dict)
    found: str = ""
    limit: str = ""
    repair: str = ""

    def message(self, description: str) -> str:
        """The check in one paragraph: what it demands, what was found, the limit and the repair.

        Args:
            description: what the check demands, as its spec has it.
        """
        figures = [
            f"{label} {value}"
            for label, value in (("found", self.found), ("expected", self.limit))
            if value
        ]
        parts = [f"{self.name}: {description.rstrip('. ')}", ", ".join(figures), self.repair]
        sentences = [part[0].upper() + part[1:] for part in parts[1:] if part]
        return " ".join(f"{part.rstrip('. ')}." for part in (parts[0], *sentences))
