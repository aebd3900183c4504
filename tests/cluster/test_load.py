"""The load's accounts, against a server that misbehaves in every way: no failure is missed. No cluster."""

import asyncio
import base64
import io
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

from tests.cluster.load import Load, burst, by_lora, failed, quantile
from tests.cluster.pictures import Ingress, Question

SEED = 7


def reply(png: bytes, seed: int = SEED, lora: str = "openmoji@1") -> bytes:
    values = {"image": base64.b64encode(png).decode(), "lora": lora, "prompt": "a cat", "seed": seed}
    body = json.dumps(
        {"outputs": [{"name": name, "data": [value]} for name, value in values.items()]}
    ).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "PNG")
    return file.getvalue()


GOOD = reply(png())
BAD = {
    "503": b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\n{}",
    "429": b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 2\r\n\r\n{}",
    "no reply": b"",
    "half a reply": GOOD[:-20],
    "no picture": reply(b"not a picture"),
    "half a picture": reply(png()[:-20]),
    "another's seed": reply(png(), seed=8),
    "no tensors": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
}


@contextmanager
def server(script: list[bytes]) -> Iterator[Ingress]:
    """Answers each request with the next of the script, and closes the connection."""
    replies = iter(script)
    loop = asyncio.new_event_loop()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        (length,) = (
            int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
        )
        await reader.readexactly(length)
        # Without this header the client may send its next request to a connection that is being closed.
        writer.write(next(replies).replace(b"\r\n", b"\r\nconnection: close\r\n", 1))
        await writer.drain()
        writer.close()

    listener = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield Ingress(f"127.0.0.1:{listener.sockets[0].getsockname()[1]}", "host", "host")
    finally:
        listener.close()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_a_burst_counts_every_kind_of_failure() -> None:
    script = [GOOD, *BAD.values(), GOOD]
    with server(script) as ingress:
        outcomes = burst(ingress, [Question("a cat", SEED)], len(script), 1)
    assert [outcome.reply is not None for outcome in outcomes] == [True, *(False for _ in BAD), True]
    assert len(failed(outcomes)) == len(BAD)
    assert by_lora(outcomes) == {"openmoji@1": 2}


def test_a_load_has_an_outcome_for_each_request_it_sent() -> None:
    script = [GOOD, BAD["no reply"], GOOD, BAD["503"]] * 50
    with server(script) as ingress, Load(ingress, [Question("a cat", SEED)], 100.0) as load:
        while len(load.outcomes) < 20:
            time.sleep(0.01)
    assert load.sent == len(load.outcomes) >= 20
    assert len(failed(load.outcomes)) + by_lora(load.outcomes).total() == load.sent
    assert abs(len(failed(load.outcomes)) - load.sent / 2) <= 1


def test_a_load_of_so_many_at_once() -> None:
    script = [GOOD, BAD["503"]] * 200
    with server(script) as ingress, Load(ingress, [Question("a cat", SEED)], at_once=3) as load:
        while len(load.outcomes) < 20:
            time.sleep(0.01)
    assert 20 <= load.sent == len(load.outcomes) <= 400
    assert len(failed(load.outcomes)) + by_lora(load.outcomes).total() == load.sent


def test_nobody_there_is_a_failure() -> None:
    with server([]) as ingress:
        pass
    assert len(failed(burst(ingress, [Question("a cat", SEED)], 3, 3))) == 3


def test_quantile() -> None:
    with server([GOOD] * 10) as ingress:
        outcomes = burst(ingress, [Question("a cat", SEED)], 10, 2)
    assert quantile(outcomes, 0) <= quantile(outcomes, 0.5) <= quantile(outcomes, 1)
    assert quantile(outcomes, 1) == max(outcome.took for outcome in outcomes)
