"""Latents to pictures, many at once."""

from tests.predictor.diffusion.drawing import make_row


def test_many_pictures_are_decoded_in_parts(load, monkeypatch):
    diffuser = load("sd15")
    samples = diffuser.begin([make_row(seed=seed) for seed in range(5)])
    whole = diffuser.decode(samples)
    monkeypatch.setattr("predictor.diffusion.decoder.PIXELS", 2 * 16 * 16)
    seen = []
    hook = diffuser._decoder._vae.decoder.register_forward_pre_hook(
        lambda _, inputs: seen.append(len(inputs[0]))
    )
    try:
        parts = diffuser.decode(samples)
    finally:
        hook.remove()
    assert seen == [2, 2, 1]
    assert all(abs(a.astype(int) - b.astype(int)).max() <= 1 for a, b in zip(whole, parts, strict=True))
