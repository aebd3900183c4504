"""The named fields of a request and a reply, with their Open Inference Protocol datatypes.

Knows names and types only; ranges are in `pictures`, reading tensors is in `request`.
"""

from dataclasses import dataclass

Value = str | int | float
"""One decoded element: str for BYTES (UTF-8), int for INT32 and INT64, float for FP32, bool for BOOL."""

NO_LORA = "none"
"""The value of `lora` that asks for, and reports, the plain base model."""

EXACT = "none"
"""The value of `approximation` that asks for, and reports, the exact picture."""

APPROXIMATION = "approximation"
"""The name of the input, and of the output that comes unasked only where one was used."""

FEW_STEPS = "few-steps"
"""The approximation that chooses the steps and the solver."""


@dataclass(frozen=True, slots=True)
class Field:
    """One tensor of the protocol; -1 in `shape` is the number of pictures N, or the picture's size."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    description: str

    @property
    def metadata(self) -> dict[str, object]:
        """The field as the protocol's model metadata lists it."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


INPUTS = (
    Field("prompt", "BYTES", (-1,), "what to draw, in English; the only field that must be there"),
    Field("negative_prompt", "BYTES", (-1,), "what to keep out of the picture"),
    Field("seed", "INT64", (-1,), "0 to 2^63-1; drawn by the server, and reported, when absent"),
    Field("num_inference_steps", "INT32", (-1,), "denoising steps"),
    Field("guidance_scale", "FP32", (-1,), "how closely to follow the prompt; 1 and less: no guidance"),
    Field("lora_scale", "FP32", (-1,), "how strongly the LoRA acts; 0: not at all"),
    Field("height", "INT32", (-1,), "pixels, one value for the whole request"),
    Field("width", "INT32", (-1,), "pixels, one value for the whole request"),
    Field(
        "lora",
        "BYTES",
        (-1,),
        "name, name@version, name@alias or none; a weighted mix: name:0.7+other:0.3; empty: the model's own",
    ),
    Field("solver", "BYTES", (-1,), "the sampling method"),
    Field(
        APPROXIMATION,
        "BYTES",
        (-1,),
        "none (default), block-cache:2, block-cache:3, few-steps, tiny-vae: nearly the same picture sooner",
    ),
    Field(
        "sticky_key",
        "BYTES",
        (-1,),
        "who asks, such as a user's id: a weighted alias gives a key the same version each time; the header "
        "X-Sticky-Key is one for the whole request",
    ),
    Field("timeout", "FP32", (-1,), "seconds the whole request may take, waiting included; more: 504"),
    Field("priority", "INT32", (-1,), "of the whole request among its tenant's; higher is drawn first"),
)

OUTPUTS = (
    Field("image", "UINT8", (-1, -1, -1, 3), "raw pixels [N, height, width, RGB]"),
    Field("seed", "INT64", (-1,), "the seed each picture was drawn with"),
    Field("lora", "BYTES", (-1,), "name@version of the LoRA that drew it, a weighted mix of such, or none"),
    Field(
        APPROXIMATION,
        "BYTES",
        (-1,),
        "JSON: the approximation and the quality measured with it; comes unasked only where one was used",
    ),
)
