"""Model names of the API → models: `emoji`, every LoRA, every exact version and alias, all on one backend."""

from kserve import ModelRepository

from predictor.backend import EngineBackend
from predictor.looks import EMOJI
from predictor.model import DiffusionModel


class LookRepository(ModelRepository):
    """Filled at start-up; no request loads anything."""

    def __init__(self, backend: EngineBackend, *, log_prompts: bool) -> None:
        super().__init__()
        looks = backend.looks
        self._default = looks.default
        for name in [EMOJI, *looks.references]:
            reference = looks.default if name == EMOJI else name
            lora = None if reference is None else looks.resolve(reference)
            self.update(
                DiffusionModel(name, lora, looks.versions(reference), backend, log_prompts=log_prompts)
            )

    def get_model(self, name: str) -> DiffusionModel | None:
        """The model of this name; `emoji@N` is version N of the default look."""
        base, at, version = name.partition("@")
        if base == EMOJI and at and self._default is not None:
            name = f"{self._default.partition('@')[0]}@{version}"
        model: DiffusionModel | None = self.models.get(name)
        return model
