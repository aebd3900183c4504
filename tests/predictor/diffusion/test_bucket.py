"""The fixed-bucket mode: the bytes of a row, whoever is drawn beside it."""

from pathlib import Path
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from predictor.diffusion.adapters import Choice
from predictor.diffusion.bucket import Buckets, _calls, _padded
from predictor.diffusion.diffuser import Diffuser
from predictor.diffusion.row import Row
from predictor.diffusion.sample import Sample
from tests.predictor.diffusion.drawing import alone
from tests.tiny_models import make_lora

RANKS = {"a@1": 2, "b@1": 3, "c@1": 12}
MOST = 3
"""Rows drawn together; each takes one or two UNet rows."""


def load(folder: Path, fixed_rows: int | None) -> Diffuser:
    diffuser = Diffuser.load(folder, fixed_rows=fixed_rows)
    for seed, (name, rank) in enumerate(RANKS.items()):
        diffuser.add_adapter(name, make_lora(diffuser._denoiser._unet, rank=rank, seed=seed))
    return diffuser


def random_row(random: Random, diffuser: Diffuser, seed: int) -> Row:
    names = random.sample(list(RANKS), random.choice([0, 0, 1, 1, 2, 3]))
    return Row(
        prompt=random.choice(["a cat", "dog", "red owl"]),
        negative_prompt=random.choice(["", "cat"]),
        seed=seed,
        steps=random.randint(1, 6),
        guidance=random.choice([1.0, 2.0, 7.5]),
        loras=tuple((name, random.choice([0.3, 1.0, 1.5])) for name in names),
        height=16,
        width=16,
        solver=random.choice([name for name in diffuser.solvers if name != "ddim_stochastic"]),
    )


def finished(diffuser: Diffuser, sample: Sample) -> tuple[bytes, bytes]:
    [picture] = diffuser.decode([sample])
    return sample.latents.numpy().tobytes(), picture.tobytes()


def together(diffuser: Diffuser, rows: list[Row], batches: int, random: Random):
    """Steps in batches made up anew at random, whose rows begin and end when they will; the finished ones."""
    active: list[Sample] = []
    for _ in range(batches):
        count = random.randint(1, MOST) - len(active)
        active += diffuser.begin(random.choices(rows, k=max(0, count)))
        random.shuffle(active)
        diffuser.step(active)
        done = [sample for sample in active if sample.finished]
        active = [sample for sample in active if not sample.finished]
        if done:
            yield from zip(done, diffuser.decode(done), strict=True)


@pytest.mark.parametrize(("kind", "batches"), [("sd15", 1500), ("sd2", 300), ("emoji", 300)])
def test_a_rows_bytes_are_the_same_in_thousands_of_batches(tiny_folders, kind, batches):
    diffuser = load(tiny_folders[kind], fixed_rows=4)
    random = Random(kind)
    rows = [random_row(random, diffuser, seed) for seed in range(20)]
    wanted = {row: finished(diffuser, alone(diffuser, row)) for row in rows}
    assert len(set(wanted.values())) == len(rows)
    count = 0
    for sample, picture in together(diffuser, rows, batches, random):
        count += 1
        assert (sample.latents.numpy().tobytes(), picture.tobytes()) == wanted[sample.row]
    assert count > batches / 5


@pytest.mark.parametrize("kind", ["sd15", "sd2", "emoji"])
def test_without_buckets_the_difference_is_bounded(tiny_folders, kind, record_property):
    """docs/determinism.md tells these bounds, and why at zero SNR only DDIM keeps them."""
    diffuser = load(tiny_folders[kind], fixed_rows=None)
    random = Random(kind)
    rows = [random_row(random, diffuser, seed) for seed in range(40)]
    rows = [row for row in rows if kind == "sd15" or row.solver == "ddim"]
    wanted = {}
    for row in rows:
        sample = alone(diffuser, row)
        wanted[row] = sample.latents, diffuser.decode([sample])[0].astype(int)
    latents = pixels = 0.0
    for sample, picture in together(diffuser, rows, 100, random):
        exact, seen = wanted[sample.row]
        scale = max(1.0, float(exact.abs().max()))
        latents = max(latents, float((sample.latents - exact).abs().max()) / scale)
        pixels = max(pixels, abs(picture - seen).max())
    record_property("latents", latents)
    record_property("pixels", float(pixels))
    assert latents <= 1e-4
    assert pixels <= 1


def test_every_call_has_the_same_shape_and_its_copies_are_counted(tiny_folders):
    diffuser = load(tiny_folders["sd15"], fixed_rows=4)
    random = Random(0)
    rows = [random_row(random, diffuser, seed) for seed in range(20)]
    seen: dict[str, set[int]] = {"unet": set(), "vae": set(), "text": set()}
    for name, module in (
        ("unet", diffuser._denoiser._unet),
        ("vae", diffuser._decoder._vae.decoder),
        ("text", diffuser._prompts._text_encoder),
    ):
        module.register_forward_pre_hook(lambda _, inputs, name=name: seen[name].add(len(inputs[0])))
    for _ in together(diffuser, rows, 50, random):
        pass
    assert seen == {"unet": {4}, "vae": {1}, "text": {1}}
    assert 0 < diffuser.padding_share < 1
    assert load(tiny_folders["sd15"], fixed_rows=None).padding_share == 0


class Placed:
    """A compute whose sums depend on the place in calls of more rows than `fine`."""

    def __init__(self, fine: int) -> None:
        self.fine = fine
        self.calls: list[int] = []

    def __call__(self, latents, timesteps, states, choices, pages=None):
        self.calls.append(len(latents))
        places = torch.arange(len(latents))[:, None, None, None]
        return latents + (places * 1e-3 if len(latents) > self.fine else 0)


@settings(deadline=None, max_examples=30)
@given(fine=st.integers(1, 20), rows=st.integers(1, 10), most=st.integers(1, 16))
def test_calls_are_as_large_as_places_make_no_difference(fine, rows, most):
    compute = Placed(fine)
    buckets = Buckets(compute, lambda choice: 0, most)
    latents = torch.randn(rows, 2, 3, 3)
    output = buckets(latents, torch.zeros(rows), torch.zeros(rows, 2, 2), [()] * rows)
    assert torch.equal(output, latents)
    [size] = buckets.sizes
    assert size <= max(1, fine)
    assert size == 1 or size in {most >> shift for shift in range(5)}
    assert buckets.padding_share == pytest.approx(1 - rows / (-(-rows // size) * size))


def test_a_size_is_tried_out_once():
    compute = Placed(4)
    buckets = Buckets(compute, lambda choice: len(choice), 8)
    one: Choice = (("a", 1.0),)
    for choices in ([()], [()], [one], [one, ()]):
        rows = len(choices)
        buckets(torch.zeros(rows, 1, 2, 2), torch.zeros(rows), torch.zeros(rows, 1, 1), choices)
    assert compute.calls == [8, 4, 4, 4, 8, 4, 4, 4]


kinds = st.lists(
    st.tuples(st.sampled_from([0, 0, 1, 8, 9, 40]), st.sampled_from([4, 4, 2])), min_size=1, max_size=20
)


@given(kinds)
def test_rows_are_computed_once_with_rows_that_fit(kinds):
    pages = [_padded(number) for number, _ in kinds]
    sizes = [size for _, size in kinds]
    calls = _calls(pages, sizes)
    assert sorted(row for call in calls for row in call.rows) == list(range(len(kinds)))
    for call in calls:
        [size] = {sizes[row] for row in call.rows}
        assert len(call.rows) <= size
        assert {pages[row] for row in call.rows} <= {call.pages, 0}
    for kind in set(zip(pages, sizes, strict=True)):  # no more calls than must be
        own = [call for call in calls if (call.pages, sizes[call.rows[0]]) == kind]
        assert len(own) <= -(-sum(pair == kind for pair in zip(pages, sizes, strict=True)) // kind[1])


@given(st.integers(0, 1000))
def test_pages_are_padded_by_a_row_alone_and_never_cut(pages):
    padded = _padded(pages)
    assert padded >= pages
    assert (padded == 0) == (pages == 0)
    assert padded <= max(8, 2 * pages)
