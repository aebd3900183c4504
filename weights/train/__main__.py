r"""`python -m weights train`: the stages of the embedded model, one after another, each resumable.

    autoencoder → text → base → lora-notoemoji, lora-openmoji → decoder → export

Stages write into `weights/runs/<stage>/`; export puts the base and, by `weights import` of the LoRA runs' own
state folders, the two LoRAs into `weights/embedded`. `unpack` does the reverse for the base, so that training
can go on from the committed model: `python -m weights train unpack base lora-notoemoji lora-openmoji export`.

On several cores, one process each with one thread is faster than threads; for two:

    OMP_NUM_THREADS=1 python -m torch.distributed.run --standalone --nproc_per_node 2 \
        -m weights.train --threads 1
"""

from __future__ import annotations

import argparse
import random
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from weights.glyphs.dataset import LOOKS
from weights.train.autoencoder import train_autoencoder
from weights.train.decoder import train_decoder
from weights.train.denoiser import (
    SHEET_PROMPTS,
    STYLE_WORDS,
    Sampler,
    build_unet,
    encode_pictures,
    redraw,
    train_base,
)
from weights.train.export import export, unpack
from weights.train.lora import train_lora
from weights.train.pictures import Subject, draw_all, subjects
from weights.train.run import Run
from weights.train.text_encoder import train_text_encoder

# stage → steps, peak learning rate, steps between checkpoints
PLAN: dict[str, tuple[int, float, int]] = {
    "autoencoder": (4000, 2e-3, 250),
    "text": (2300, 2e-3, 100),
    "base": (4000, 1e-3, 150),
    "lora-notoemoji": (1120, 1e-3, 100),
    "lora-openmoji": (1120, 1e-3, 100),
    "decoder": (2400, 1e-3, 500),
}


class Workshop:
    """The folder of the runs and what the stages share: subjects, their pictures and latents."""

    def __init__(self, folder: Path, device: str) -> None:
        self.folder, self.device = folder, device
        self.subjects: list[Subject] = list(subjects())
        self.sheet: Sequence[str] = SHEET_PROMPTS

    @property
    def plain(self) -> int:
        """How many subjects, the first ones, are glyphs as they are."""
        return sum(subject.colour is None and subject.feature is None for subject in self.subjects)

    def pictures(self) -> npt.NDArray[np.uint8]:
        """uint8 RGB [2, N, 128, 128, 3], drawn once and kept."""
        file = self.folder / "pictures.npy"
        if not file.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            np.save(file, draw_all(self.subjects))
        drawn: npt.NDArray[np.uint8] = np.load(file)
        return drawn

    def latents(self) -> torch.Tensor:
        """float16 [2, N, 8, 16, 16] of the trained autoencoder, made once and kept."""
        file = self.folder / "latents.npy"
        if not file.exists():
            encoder = AutoencoderKL.from_pretrained(self.folder / "autoencoder" / "model")
            np.save(file, encode_pictures(encoder, self.pictures()).numpy())
        return torch.from_numpy(np.load(file))

    def redrawn(self, run: Run) -> torch.Tensor:
        """float16 [2, N, 8, 16, 16]: the subjects' latents by the trained UNet, made once and kept."""
        file = self.folder / "redrawn.npy"
        if not file.exists():
            unet = UNet2DConditionModel.from_pretrained(self.folder / "base" / "model").to(run.device)
            np.save(file, redraw(unet, self.sampler(run)).numpy())
        return torch.from_numpy(np.load(file))

    def autoencoder(self) -> AutoencoderKL:
        """The autoencoder with the best decoder there is yet."""
        stage = "decoder" if (self.folder / "decoder" / "model").exists() else "autoencoder"
        return AutoencoderKL.from_pretrained(self.folder / stage / "model").eval()

    def sampler(self, run: Run, look: str | None = None) -> Sampler:
        """Batches of both looks with style words, or of one `look` without."""
        text = self.folder / "text"
        return Sampler(
            self.subjects,
            self.latents(),
            CLIPTokenizer.from_pretrained(text / "tokenizer"),
            CLIPTextModel.from_pretrained(text / "model").eval().to(run.device),
            random.Random(),  # a run that goes on must not see the same prompts again
            looks=(look,) if look else LOOKS,
            style_words=0.0 if look else STYLE_WORDS,
            sheet=self.sheet,
        )

    def start(self, stage: str, steps: int | None, batch: int | None) -> None:
        """Run one stage to its end."""
        planned, peak, every = PLAN[stage]
        run = Run(self.folder, stage, steps or planned, device=self.device, save_every=every, peak=peak)
        torch.manual_seed(run.accelerator.process_index)
        with run.accelerator.main_process_first():  # it makes the files that the others then find
            if stage in ("autoencoder", "decoder"):
                self.pictures()
            if stage != "autoencoder":
                self.latents()
            if stage == "decoder":
                self.redrawn(run)
        size = {} if batch is None else {"batch": batch}
        if stage == "autoencoder":
            last = run.folder / "model"
            start = AutoencoderKL.from_pretrained(last) if last.exists() else None
            train_autoencoder(run, self.pictures(), self.plain, **size, start=start)
            (self.folder / "latents.npy").unlink(missing_ok=True)  # of the encoder before
            shutil.rmtree(self.folder / "decoder", ignore_errors=True)
        elif stage == "text":
            train_text_encoder(run, self.subjects, self.latents(), **size)
        elif stage == "decoder":
            latents = torch.stack([self.latents(), self.redrawn(run)])
            train_decoder(run, self.autoencoder(), self.pictures(), latents, self.plain, **size)
        elif stage == "base":
            last = self.folder / "base" / "model"
            unet = UNet2DConditionModel.from_pretrained(last) if last.exists() else build_unet()
            train_base(run, self.sampler(run), unet, self.autoencoder(), **size)
            (self.folder / "redrawn.npy").unlink(missing_ok=True)  # by the UNet before
            for look in LOOKS:  # its state holds that UNet too
                shutil.rmtree(self.folder / f"lora-{look}" / "state", ignore_errors=True)
        else:
            look = stage.removeprefix("lora-")
            unet = UNet2DConditionModel.from_pretrained(self.folder / "base" / "model")
            train_lora(run, self.sampler(run, look), unet, self.autoencoder(), **size)


def main(argv: list[str] | None = None) -> int:
    """Run the stages that are asked for; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m weights train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    known = ("unpack", *PLAN, "export")
    parser.add_argument(
        "stages", nargs="*", metavar="STAGE", help=f"{', '.join(known)}; default: all but unpack"
    )
    parser.add_argument("--run_dir", type=Path, default=Path("weights/runs"))
    parser.add_argument("--embedded", type=Path, default=Path("weights/embedded"), help="where export writes")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--steps", type=int, help="steps of the stage in all, instead of the plan's")
    parser.add_argument("--batch", type=int, help="pictures a step, instead of the stage's own")
    parser.add_argument("--threads", type=int, help="CPU threads")
    args = parser.parse_args(argv)
    stages: list[str] = args.stages or [*PLAN, "export"]
    if unknown := [stage for stage in stages if stage not in known]:
        parser.error(f"unknown stage {', '.join(unknown)}")
    if args.threads:
        torch.set_num_threads(args.threads)
    workshop = Workshop(args.run_dir, args.device)
    for stage in stages:
        if stage == "export":
            export(args.run_dir, args.embedded, LOOKS)
        elif stage == "unpack":
            unpack(args.embedded, args.run_dir)
        else:
            workshop.start(stage, args.steps, args.batch)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
