"""Whether a server grows slower or larger over very many requests: small pictures of one step with all LoRAs,
one window of requests after the other, all through the comparison.
"""

from benchmarks.bench import Bench
from benchmarks.jobs import Job

NAME = "drift"
SIDE = "predictor"
SIZE = 64  # pixels: the smallest that the UNets of Stable Diffusion take


def measure(bench: Bench, repeat: int) -> None:
    """Record how long each of this round's windows took for a request, all of a window being due at once, and
    the memory after it; a window is a repeat here.
    """
    settings = bench.settings
    each = max(1, settings.drift_requests // settings.drift_windows)
    first = repeat * settings.drift_windows
    case = f"requests {first * each + 1} to {(first + settings.drift_windows) * each}"
    for window in range(first, first + settings.drift_windows):
        jobs = [
            Job("a red apple", window * each + number, 1, 1.0, bench.loras[number % len(bench.loras)], SIZE)
            for number in range(each)
        ]
        seconds = bench.burst(SIDE, jobs).seconds
        with bench.server(SIDE) as server:
            memory = server.memory() / 2**20
        bench.record(NAME, case, SIDE, window, "s", request=seconds / each)
        bench.record(NAME, case, SIDE, window, "MiB", memory=memory)
