"""How far a number that was counted can be trusted."""

import math

Z95 = 1.959963984540054
"""Standard normal quantile of a two-sided 95 % interval."""


def wilson_interval(right: int, examples: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share; unlike the normal one it stays inside 0 to 1 and holds for few examples."""
    share, z2 = right / examples, Z95**2
    centre = (share + z2 / (2 * examples)) / (1 + z2 / examples)
    half = Z95 * math.sqrt(share * (1 - share) / examples + z2 / (4 * examples**2)) / (1 + z2 / examples)
    return max(0.0, centre - half), min(1.0, centre + half)


def chi_square_tail(value: float, freedom: int) -> float:
    """Probability that a chi-square variable exceeds a value: Wilson and Hilferty's cube-root approximation (1931)."""
    if value <= 0:
        return 1.0
    spread = 2 / (9 * freedom)
    return 0.5 * math.erfc(((value / freedom) ** (1 / 3) - (1 - spread)) / math.sqrt(2 * spread))
