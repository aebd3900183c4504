"""How long one picture takes at a running service (`make run`, then `make bench`), side by side.

The sides take turns, so that whatever else the machine does slows all of them alike; each is given as a
ratio to the first. One request at a time: this is latency, not throughput.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from dataclasses import dataclass
from typing import Any

import httpx


@dataclass(frozen=True, slots=True)
class Side:
    """One way to ask for one picture."""

    name: str
    url: str
    prompt: str
    parameters: dict[str, Any]

    def body(self, seed: int) -> dict[str, Any]:
        """An OIP v2 request."""
        inputs = [
            {"name": "prompt", "datatype": "BYTES", "shape": [1], "data": [self.prompt]},
            {"name": "seed", "datatype": "INT64", "shape": [1], "data": [seed]},
        ]
        return {"inputs": inputs, "parameters": self.parameters}


def measure(sides: list[Side], model: str, rounds: int) -> dict[str, list[float]]:
    """Seconds of every request, by side; the first round warms up and is left out."""
    seconds: dict[str, list[float]] = {side.name: [] for side in sides}
    with httpx.Client(timeout=300) as client:
        for number in range(rounds + 1):
            for side in sides:
                began = time.perf_counter()
                reply = client.post(f"{side.url}/v2/models/{model}/infer", json=side.body(number))
                took = time.perf_counter() - began
                reply.raise_for_status()
                if number:
                    seconds[side.name].append(took)
    return seconds


def main() -> None:
    """Print a table, and the settings as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--transformer", default="http://127.0.0.1:8080")
    parser.add_argument("--predictor", default="http://127.0.0.1:8090")
    parser.add_argument("--model", default="notoemoji")
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    sides = [
        Side("English, transformer", arguments.transformer, "a red apple", {}),
        Side("Korean, transformer", arguments.transformer, "빨간 사과", {}),
        Side("English, predictor alone", arguments.predictor, "a red apple", {}),
        Side("English, no guidance", arguments.transformer, "a red apple", {"guidance_scale": 1.0}),
        Side("English, twice the steps", arguments.transformer, "a red apple", {"num_inference_steps": 20}),
    ]
    seconds = measure(sides, arguments.model, arguments.rounds)
    first = statistics.median(seconds[sides[0].name])
    print(f"{'side':28}{'median s':>10}{'p95 s':>10}{'ratio':>8}")
    for name, taken in seconds.items():
        middle = statistics.median(taken)
        late = sorted(taken)[max(0, round(0.95 * len(taken)) - 1)]
        print(f"{name:28}{middle:10.3f}{late:10.3f}{middle / first:8.2f}")
    machine = {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    print(json.dumps({"model": arguments.model, "rounds": arguments.rounds, **machine}))


if __name__ == "__main__":
    main()
