"""Memory with many LoRAs: servers of their own on a store of many, after a picture with each of some."""

from benchmarks.bench import Bench
from benchmarks.jobs import Job
from benchmarks.loras import write_store
from benchmarks.sides import commands

NAME = "memory"
USED = 10


def measure(bench: Bench, repeat: int) -> None:
    """Record the memory of each side with few LoRAs and with many; in the first round only, for it does not
    vary.
    """
    if repeat:
        return
    many = bench.folder / "many" / "loras"
    names = write_store(bench.settings.model_dir / "loras", many, bench.settings.adapters)
    stores = {f"{len(bench.loras)} LoRAs": (bench.store, bench.loras), f"{len(names)} LoRAs": (many, names)}
    for case, (store, loras) in stores.items():
        for side in bench.settings.memory_sides:
            with bench.forgiving(NAME, repeat), bench.launch(commands(bench.settings, store)[side]) as server:
                server.wait_until_ready(bench.settings.ready_timeout)
                jobs = [Job("a red apple", number, 1, 1.0, lora) for number, lora in enumerate(loras[-USED:])]
                bench.ask(server, jobs)
                bench.record(NAME, case, side, 0, "MiB", memory=server.memory() / 2**20)
