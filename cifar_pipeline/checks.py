"""What a check found."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Check:
    """One finding: what was looked at, whether it holds, and the figures behind it."""

    name: str
    passed: bool
    details: dict[str, Any] = field(default_factory=dict)
