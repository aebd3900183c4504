"""Model names of the API → models: `emoji`, every LoRA, version, alias and route, all on one backend."""

from kserve import ModelRepository

from predictor.backend import EngineBackend
from predictor.looks.looks import EMOJI
from predictor.model import DiffusionModel


class LookRepository(ModelRepository):
    """The names are those of the looks as they are now; no request loads anything."""

    def __init__(self, backend: EngineBackend, *, log_prompts: bool) -> None:
        super().__init__()
        self._backend = backend
        self._log_prompts = log_prompts

    def get_models(self) -> dict[str, DiffusionModel]:
        """All models by their names."""
        return {name: self._model(name) for name in self._backend.looks.models}

    def get_model(self, name: str) -> DiffusionModel | None:
        """The model of this name; `emoji@N` is version N of the default look."""
        looks = self._backend.looks
        base, at, version = name.partition("@")
        if base == EMOJI and at and looks.default is not None:
            name = f"{looks.default.partition('@')[0]}@{version}"
        return self._model(name) if name in looks.models else None

    def _model(self, name: str) -> DiffusionModel:
        return DiffusionModel(name, self._backend, log_prompts=self._log_prompts)
