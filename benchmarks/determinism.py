"""How far a picture drawn among others is from the same one drawn alone, in both determinism modes.

`python -m benchmarks.determinism` draws rows of one model folder, first alone, then in random batches that
they join and leave at any step, and prints the largest differences, the padding, and what a row costs.
"""

import argparse
import time
from pathlib import Path
from random import Random

import numpy as np
import torch

from predictor.diffusion.diffuser import Diffuser
from predictor.diffusion.row import Row
from predictor.diffusion.sample import Sample
from weights.store import Store

EMBEDDED = Path(__file__).parents[1] / "weights" / "embedded"
ROWS = 8


def load(folder: Path, device: str, fixed_rows: int | None) -> Diffuser:
    """The model with all LoRAs of its store."""
    diffuser = Diffuser.load(folder / "base", device=device, fixed_rows=fixed_rows)
    store = Store(folder / "loras")
    for version in store.versions():
        diffuser.add_adapter(str(version), store.load(version))
    return diffuser


def random_row(random: Random, diffuser: Diffuser, seed: int) -> Row:
    """A row with the folder's own solver and any of the LoRAs, mixed or none."""
    height, width = diffuser.native_size
    loras = random.sample(diffuser.adapters, random.randint(0, min(2, len(diffuser.adapters))))
    return Row(
        prompt=random.choice(["a red apple", "a happy cat", "a rocket"]),
        negative_prompt="",
        seed=seed,
        steps=random.choice([8, 10, 20]),
        guidance=random.choice([1.0, 2.0, 7.5]),
        loras=tuple((name, random.choice([0.5, 1.0])) for name in loras),
        height=height,
        width=width,
        solver=diffuser.defaults.solver,
    )


def compare(diffuser: Diffuser, max_batch_size: int, batches: int) -> str:
    """Draws, and says what differed."""
    random = Random(0)
    rows = [random_row(random, diffuser, seed) for seed in range(ROWS)]
    wanted = {}
    for row in rows:
        [sample] = diffuser.begin([row])
        while not sample.finished:
            diffuser.step([sample])
        wanted[row] = sample.latents, diffuser.decode([sample])[0]
    latents = pixels = 0.0
    pictures = equal = steps = 0
    seconds = 0.0
    active: list[Sample] = []
    for _ in range(batches):
        active += diffuser.begin(random.choices(rows, k=random.randint(0, max_batch_size - len(active))))
        if not active:
            continue
        random.shuffle(active)
        began = time.perf_counter()
        diffuser.step(active)
        seconds += time.perf_counter() - began
        steps += len(active)
        done = [sample for sample in active if sample.finished]
        active = [sample for sample in active if not sample.finished]
        for sample, picture in zip(done, diffuser.decode(done) if done else [], strict=True):
            exact, alone = wanted[sample.row]
            if isinstance(picture, Exception) or isinstance(alone, Exception):
                raise SystemExit(f"no picture: {sample.row}")
            pictures += 1
            equal += torch.equal(sample.latents, exact) and np.array_equal(picture, alone)
            latents = max(latents, float((sample.latents - exact).abs().max() / exact.abs().max()))
            pixels = max(pixels, int(np.abs(picture.astype(int) - alone.astype(int)).max()))
    return (
        f"{pictures} pictures, {equal} with equal bytes; largest difference: {latents:.1e} of the largest "
        f"latent, {pixels} of 255 in a pixel; padding {diffuser.padding_share:.0%}; "
        f"{1000 * seconds / steps:.1f} ms a row and step"
    )


def main() -> None:
    """Both modes, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model_dir", type=Path, default=EMBEDDED)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--max_batch_size", type=int, default=8)
    parser.add_argument("--batches", type=int, default=300)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    for mode, fixed_rows in (("throughput", None), ("fixed-bucket", 2 * given.max_batch_size)):
        diffuser = load(given.model_dir, given.device, fixed_rows)
        print(f"{mode}: {compare(diffuser, given.max_batch_size, given.batches)}", flush=True)


if __name__ == "__main__":
    main()
