"""The unit of work the server hands to the engine: one picture.

It doesn't know torch, KServe or how a picture is drawn.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One picture to draw.

    `prompt` and `negative_prompt` are English text; an empty negative prompt is the unconditional one.
    `seed` is the seed of the row's own CPU generator, so a row gives the same picture whatever is drawn
    beside it.
    `steps` is the number of inference steps (diffusers' `num_inference_steps`), at least 1.
    `guidance` is the classifier-free guidance scale; at 1 or below the row runs without the negative prompt
    at half the cost.
    `loras` are the exact adapter names ("notoemoji@1"), each once, with the weights of their deltas; empty:
    the bare base.
    `height` and `width` are pixels, multiples of the diffuser's `size_multiple`.
    `solver` is one of the diffuser's `solvers` ("ddim", "euler", …).
    `inner_every`: the UNet's inner layers are computed at every so manieth step, the first among them, and
    what they gave is used until the next; 1: at every step, which is exact.
    `tiny_vae`: whether the model's tiny VAE decodes it.
    """

    prompt: str
    negative_prompt: str
    seed: int
    steps: int
    guidance: float
    loras: tuple[tuple[str, float], ...]
    height: int
    width: int
    solver: str
    inner_every: int = 1
    tiny_vae: bool = False
