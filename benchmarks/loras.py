"""A store for the comparison: the model's own LoRAs, and as many scaled variants of them as are asked for."""

from pathlib import Path

from weights.store import Store


class NoLoras(ValueError):
    """The model has none to compare with."""


def write_store(source: Path, folder: Path, number: int) -> list[str]:
    """Fills a new store with `number` versions, the model's own first; gives their exact names.

    A variant is a LoRA with its effect scaled, the next version of the same name: another adapter to every
    server, at the same cost.

    Raises:
        NoLoras: the source has none.
    """
    originals = Store(source).versions()
    if not originals:
        raise NoLoras(f"{source} holds no LoRA")
    target = Store(folder)
    names = []
    for place in range(number):
        version = originals[place % len(originals)]
        scale = 1 - place // len(originals) / number
        tensors = {
            key: tensor * scale if ".lora_B." in key else tensor
            for key, tensor in Store(source).load(version).items()
        }
        names.append(str(target.add(tensors, version.manifest)))
    return names
