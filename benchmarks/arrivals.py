"""When jobs arrive: a Poisson process, the same for the same seed. It doesn't know what arrives."""

import random


def poisson(rate: float, count: int, seed: int) -> list[float]:
    """Ascending times in seconds from 0 of so many arrivals, `rate` a second in the mean.

    Raises:
        ValueError: the rate is not positive.
    """
    if not rate > 0:
        raise ValueError(f"a rate of {rate} a second")
    source = random.Random(seed)
    times, now = [], 0.0
    for _ in range(count):
        now += source.expovariate(rate)
        times.append(now)
    return times
