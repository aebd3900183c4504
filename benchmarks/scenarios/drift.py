"""Whether a server grows slower or larger over very many requests: jobs of one step, all LoRAs, one after
the other, in windows, all through the comparison.
"""

from statistics import median

from benchmarks.bench import Bench
from benchmarks.jobs import Job

NAME = "drift"
SIDE = "predictor"


def measure(bench: Bench, repeat: int) -> None:
    """Record the median latency of each of this round's windows and the memory after it; a window is a repeat
    here.
    """
    settings = bench.settings
    each = max(1, settings.drift_requests // settings.drift_windows)
    for window in range(repeat * settings.drift_windows, (repeat + 1) * settings.drift_windows):
        jobs = [
            Job("a red apple", window * each + number, 1, 1.0, bench.loras[number % len(bench.loras)])
            for number in range(each)
        ]
        seconds = [outcome.latency for outcome in bench.in_turn(SIDE, jobs).outcomes]
        with bench.server(SIDE) as server:
            memory = server.memory() / 2**20
        case = f"windows of {each} requests"
        bench.record(NAME, case, SIDE, window, "s", p50=median(seconds))
        bench.record(NAME, case, SIDE, window, "MiB", memory=memory)
