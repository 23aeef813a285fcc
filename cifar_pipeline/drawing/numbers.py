"""How figures are written, once for every page: the same form whatever the locale."""

import math

NONE = "–"
"""In the place of a figure that does not exist."""


def percent(share: float) -> str:
    """0.93951 as 93.95%."""
    return NONE if math.isnan(share) else f"{share:.2%}".replace("-", "−")


def about(share: float) -> str:
    """A share in whole percents, for one image, of which more would say too much."""
    if share < 0.005:
        return "< 1%"
    return "> 99%" if share >= 0.995 else f"{share:.0%}"


def interval(low: float, high: float) -> str:
    """The ends of an interval of shares."""
    return f"{percent(low)} to {percent(high)}"


def points(difference: float) -> str:
    """A difference of shares in percentage points, always with a sign."""
    return f"{100 * difference:+.2f}".replace("-", "−")


def decimal(value: float, digits: int = 3) -> str:
    """A figure that is not a share, such as a loss."""
    return NONE if math.isnan(value) else f"{value:.{digits}f}".replace("-", "−")


def count(value: float) -> str:
    """10000 as 10,000."""
    return f"{value:,.0f}"


def p_value(value: float) -> str:
    """To three decimals; smaller ones would say more than the test can."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
