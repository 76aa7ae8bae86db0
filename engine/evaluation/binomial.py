"""Exact binomial tails, in logarithms, for certificates."""

from math import exp, lgamma, log, log1p


def tail(k: int, n: int, p: float) -> float:
    """Compute P(X <= k) for X ~ Binomial(n, p), 0 < p < 1.

    It is the p-value of `k` losses against a true rate of at least p.
    """
    if k >= n:
        return 1.0
    terms = [lgamma(n + 1) - lgamma(i + 1) - lgamma(n - i + 1) + i * log(p) + (n - i) * log1p(-p) for i in range(k + 1)]
    largest = max(terms)
    return min(1.0, exp(largest) * sum(exp(term - largest) for term in terms))


def texts_needed(losses: int, rate: float, confidence: float) -> int:
    """Return the least n for which `losses` of n texts certify a rate.

    That is, P(X <= losses) <= 1 - confidence.
    """
    low, high = losses, max(1, losses)
    while tail(losses, high, rate) > 1.0 - confidence:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if tail(losses, middle, rate) > 1.0 - confidence else (low, middle)
    return high
