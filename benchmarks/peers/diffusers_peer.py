"""Plain diffusers, one request after the other: a FastAPI app with one worker thread."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI

from benchmarks.peers.job import Job, Picture
from benchmarks.peers.pipeline import Pipeline
from benchmarks.peers.settings import Settings


def build_app(settings: Settings) -> FastAPI:
    """`POST /draw` with a Job; `GET /health` once the model is loaded."""
    worker = ThreadPoolExecutor(max_workers=1)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.pipeline = await asyncio.get_running_loop().run_in_executor(worker, Pipeline, settings)
        yield
        worker.shutdown(cancel_futures=True)

    app = FastAPI(lifespan=lifespan)

    @app.get("/health")
    async def health() -> str:
        return "ok"

    @app.post("/draw")
    async def draw(job: Job) -> Picture:
        pictures = await asyncio.get_running_loop().run_in_executor(worker, app.state.pipeline.draw, [job])
        return pictures[0]

    return app


if __name__ == "__main__":
    given = Settings.from_environment()
    uvicorn.run(build_app(given), host="127.0.0.1", port=given.port, log_level="warning")
