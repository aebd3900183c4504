"""Behind all model names: one engine, warmed up, with the defaults and limits that go with its model.

Turns picture requests into the engine's rows. It doesn't know protocols.
"""

import asyncio
import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from predictor.approximations import Approximation
from predictor.contract import EXACT, Label, Limits, PictureRequest, read_mix, write_mix
from predictor.diffusion.diffuser import Diffuser
from predictor.diffusion.row import Row
from predictor.engine.course import Course
from predictor.engine.engine import Engine
from predictor.engine.terms import Terms
from predictor.errors import InvalidInput, ServingError
from predictor.ledger import Ledger
from predictor.looks.live import LiveLooks
from predictor.looks.looks import EMOJI, Looks
from predictor.outcome import Ending, Outcome


@dataclass(frozen=True, slots=True)
class Drawn:
    """Pictures, uint8 [N, height, width, 3], and the N rows they were drawn from."""

    images: NDArray[np.uint8]
    rows: list[Row]
    loras: list[str]
    """What drew each picture: "name@version", a mix of such with weights, or "none"."""
    approximations: list[Label]

    @property
    def seeds(self) -> list[int]:
        """The seed of each picture, given or drawn by lot."""
        return [row.seed for row in self.rows]

    @property
    def version(self) -> str:
        """The number of the version that drew all of them; "" where there are several, or none."""
        drew = {version for lora in self.loras for version, _ in read_mix(lora)}
        return drew.pop().partition("@")[2] if len(drew) == 1 else ""


class EngineBackend:
    """The `predictor.edge.Backend` of this server."""

    def __init__(
        self,
        diffuser: Diffuser,
        engine: Engine,
        looks: LiveLooks,
        approximations: Mapping[str, Approximation],
        limits: Limits,
        ledger: Ledger,
        *,
        request_timeout: float,
    ) -> None:
        """approximations: those that the limits allow, by name. `ledger` hears of every request that gets
        as far as the engine.
        """
        self.limits = limits
        self._diffuser = diffuser
        self._engine = engine
        self._live = looks
        self._approximations = approximations
        self._request_timeout = request_timeout
        self._ledger = ledger
        self._watching: asyncio.Task[None] | None = None

    @property
    def looks(self) -> Looks:
        """What every name means now."""
        return self._live.current

    @property
    def alive(self) -> bool:
        """False when the engine's computation hangs, or the engine has crashed."""
        return self._engine.alive

    @property
    def healthy(self) -> bool:
        """Whether the engine takes rows, and draws them: one that hangs gets none until it is restarted."""
        return self._engine.accepting and self._engine.alive

    async def start(self) -> None:
        """Start the engine and draw one picture, so that the first request finds everything warm."""
        self._engine.start()
        steps = min(2, self.limits.max_steps)
        picture = self.exact(PictureRequest("warm up", num_inference_steps=steps), EMOJI)
        await self._engine.draw([self.row(picture)])
        self._watching = asyncio.create_task(self._live.watch(self._engine), name="looks")

    async def stop(self, drain_s: float) -> None:
        """Stop the engine; what it draws for nobody any more is not waited for longer than `drain_s`."""
        if self._watching is not None:
            self._watching.cancel()
        await self._engine.stop(drain_s)

    async def draw(
        self, pictures: Sequence[PictureRequest], model: str, tenant: str = "", time_left: float = math.inf
    ) -> Drawn:
        """Draw the pictures of one request; cancelling this frees their places.

        Args:
            pictures: within the limits; timeout and priority are those of the first.
            model: the name that chooses the LoRA of those that name none.
            tenant: who asks.
            time_left: seconds after which the caller has no use for them.

        Raises:
            InvalidInput, UnknownModel: a picture cannot be drawn as asked.
            QueueFull, NotReady: not now.
            DeadlineExceeded: it took longer than the request or this server allows.
        """
        exact = [self.exact(picture, model) for picture in pictures]
        rows = [self.row(picture) for picture in exact]
        for row in rows:
            self._diffuser.check(row)
            for name, text in (("prompt", row.prompt), ("negative_prompt", row.negative_prompt)):
                tokens, most = self._diffuser.count_tokens(text), self._diffuser.max_prompt_tokens
                if tokens > most:
                    raise InvalidInput(name, f"must have at most {most} tokens for this model, has {tokens}")
        timeout = min(self._request_timeout, pictures[0].timeout or math.inf, time_left)
        terms = Terms(timeout=timeout, priority=pictures[0].priority or 0, tenant=tenant)
        loras = [picture.lora for picture in exact]
        courses = [Course() for _ in rows]
        ending = Ending.REFUSED
        try:
            images = await self._engine.draw(rows, terms, courses)
            ending = Ending.DRAWN
        except ServingError as error:
            if error.http_status >= 500:
                ending = Ending.FAILED
            raise
        finally:
            self._ledger.ended(Outcome(model, loras, courses, ending, self._engine.clock()))
        labels = [self._approximations[picture.approximation or EXACT].label for picture in exact]
        return Drawn(images, rows, loras, labels)

    def statistics(self, model: str) -> dict[str, object]:
        """What has been asked for under a name, and how the engine is."""
        return self._ledger.read(model, self._engine, self._diffuser)

    def exact(self, picture: PictureRequest, model: str) -> PictureRequest:
        """The same request with its seed, and with the versions that its LoRAs are now.

        Args:
            picture: a seed is drawn by lot where it has none.
            model: the name that chooses the LoRA where it names none.

        Raises:
            UnknownModel: the request names a LoRA that isn't there.
        """
        seed = secrets.randbits(63) if picture.seed is None else picture.seed
        looks = self.looks  # taken once: they may change at any moment, in another thread
        # without a key the seed decides, so that the same request still draws the same picture
        mix = looks.mix(picture.lora or looks.reference(model), picture.sticky_key or f"seed {seed}")
        return replace(picture, seed=seed, lora=write_mix(mix))

    def row(self, picture: PictureRequest) -> Row:
        """The engine's row of an exact request; the model's defaults fill in what it left open."""
        assert picture.seed is not None, "an exact request has a seed"
        defaults = self._diffuser.defaults
        height, width = self._diffuser.native_size
        weights = [(version, weight * picture.lora_scale) for version, weight in read_mix(picture.lora)]
        approximation = self._approximations[picture.approximation or EXACT]
        row = Row(
            prompt=picture.prompt,
            negative_prompt=picture.negative_prompt,
            seed=picture.seed,
            steps=defaults.steps if picture.num_inference_steps is None else picture.num_inference_steps,
            guidance=defaults.guidance if picture.guidance_scale is None else picture.guidance_scale,
            loras=tuple((version, weight) for version, weight in weights if weight != 0),
            height=height if picture.height is None else picture.height,
            width=width if picture.width is None else picture.width,
            solver=defaults.solver if picture.solver is None else picture.solver,
        )
        return replace(row, **approximation.changes)
