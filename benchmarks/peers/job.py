"""What the peers are asked and what they answer. It knows no torch: their front processes need none."""

from pydantic import BaseModel, ConfigDict


class Job(BaseModel):
    """One picture to draw; `lora` is "name@version", or None for the plain base."""

    model_config = ConfigDict(frozen=True)

    prompt: str
    seed: int
    steps: int
    guidance: float
    lora: str | None = None

    @property
    def settings(self) -> tuple[int, float, str | None]:
        """What the jobs of one call of the pipeline must have in common."""
        return self.steps, self.guidance, self.lora


class Picture(BaseModel):
    """Raw pixels, as the predictor's own v1 reply has them: no peer spends time on a picture format."""

    b64: str
    shape: list[int]
