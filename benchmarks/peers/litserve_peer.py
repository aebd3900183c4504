"""LitServe with batching: a LitAPI whose batches are grouped by settings inside `predict`."""

import litserve

from benchmarks.peers.job import Job, Picture
from benchmarks.peers.settings import Settings

BATCH_TIMEOUT_S = 0.01  # how long a batch waits to fill, small against the time of a picture


class EmojiApi(litserve.LitAPI):
    """`POST /predict` with a Job."""

    def setup(self, device: str) -> None:
        """Load the model, in the worker process."""
        from benchmarks.peers.pipeline import Pipeline  # torch only in the worker

        self._pipeline = Pipeline(Settings.from_environment())

    def decode_request(self, request: Job) -> Job:
        """The request as it is."""
        return request

    def batch(self, inputs: list[Job]) -> list[Job]:
        """Jobs have no tensors to stack."""
        return list(inputs)

    def predict(self, x: list[Job]) -> list[Picture]:
        """The pictures of one batch."""
        return self._pipeline.draw(x)

    def unbatch(self, output: list[Picture]) -> list[Picture]:
        """One picture a request."""
        return output

    def encode_response(self, output: Picture) -> Picture:
        """The picture as it is."""
        return output


if __name__ == "__main__":
    given = Settings.from_environment()
    server = litserve.LitServer(
        EmojiApi(max_batch_size=given.max_batch_size, batch_timeout=BATCH_TIMEOUT_S),
        accelerator="cuda" if given.device == "cuda" else "cpu",
        devices=1,
        workers_per_device=1,
        timeout=False,
    )
    server.run(host="127.0.0.1", port=given.port, generate_client_file=False, log_level="warning")
