"""Puts the predictor together: weights → diffuser → engine → models → KServe server.

The weights are loaded before any port is opened: a folder that can't be served ends the process with the
reason. The warm-up picture is drawn with the ports open and the readiness probe still false.
"""

import torch
from prometheus_client import REGISTRY

from predictor import __version__, contract
from predictor.approximations import read_approximations
from predictor.backend import EngineBackend
from predictor.contract import MAX_TIMEOUT, PRIORITIES, Limits
from predictor.cpus import cpu_quota
from predictor.diffusion.diffuser import Diffuser
from predictor.edge import Api, Server, log
from predictor.engine.engine import Engine
from predictor.gauges import Gauges
from predictor.ledger import Ledger
from predictor.looks.live import LiveLooks
from predictor.looks.looks import UnusableLook
from predictor.repository import LookRepository
from predictor.settings import Settings
from predictor.statistics import PredictorStats
from weights.errors import WeightsError
from weights.store import Store


class UnusableDevice(ValueError):
    """The device that was asked for isn't there."""


def build_server(settings: Settings) -> Server:
    """Load everything and return the server, ready to `start`.

    Raises:
        UnusableDevice: there is no such device.
        UnsupportedCheckpoint: the base folder can't be served.
        WeightsError: an index of the store is damaged, or the default look is, or doesn't fit the base;
            another such LoRA is left out.
        UnusableLook: the default look isn't in the store.
    """
    device = (
        settings.device if settings.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    )
    if device == "cuda" and not torch.cuda.is_available():
        raise UnusableDevice(
            "--device cuda: torch finds no CUDA device or driver here; auto takes the CPU then"
        )
    if settings.cuda_graphs and device != "cuda":
        raise UnusableDevice("--cuda_graphs needs --device cuda")
    dtype = settings.dtype if settings.dtype != "auto" else ("float16" if device == "cuda" else "float32")
    store = Store(settings.lora_dir)
    looks = LiveLooks(store, settings.default_look, settings.routes_file)
    log("loading", {"base": settings.base_dir, "loras": settings.lora_dir, "device": device, "dtype": dtype})
    cores = torch.get_num_threads()
    threads = settings.threads or min(cores, cpu_quota() or cores)
    fixed = settings.determinism == "fixed-bucket"
    torch.set_num_threads(1)  # this thread only loads: see the engine's Worker
    diffuser = Diffuser.load(
        settings.base_dir,
        device=device,
        dtype=dtype,
        max_resident_loras=settings.max_resident_loras,
        # a row with guidance takes two
        fixed_rows=2 * settings.max_batch_size if fixed else None,
    )
    for version in sorted(set(looks.current.references.values())):
        try:
            diffuser.add_adapter(version, store.load(store.resolve(version)))
        except WeightsError as error:
            # One bad upload to a shared volume must not keep the pods of the other looks from starting.
            try:
                looks.leave_out(version, error)
            except UnusableLook:
                raise error from None
    if settings.cuda_graphs:
        diffuser.capture_graphs(2 * settings.max_batch_size)
    approximations = read_approximations(settings.base_dir, diffuser)
    native = max(diffuser.native_size)
    limits = Limits(
        max_rows=settings.max_rows,
        max_steps=min(settings.max_steps, diffuser.max_steps),
        max_prompt_chars=settings.max_prompt_chars,
        min_size=diffuser.size_multiple,
        max_size=max(native, settings.max_size or 2 * native),
        size_multiple=diffuser.size_multiple,
        solvers=diffuser.solvers,
        approximations=tuple(approximations),
    )
    ledger = Ledger()
    engine = Engine(
        diffuser,
        max_batch_size=settings.max_batch_size,
        max_queue_rows=settings.max_queue_rows,
        max_latency=settings.max_latency,
        max_queue_seconds=settings.max_queue_seconds,
        tenant_weights=settings.tenant_weights,
        hang_timeout=settings.hang_timeout,
        threads=threads,
        steady_threads=fixed,
        observer=ledger.called,
    )
    REGISTRY.register(Gauges(engine, diffuser))

    backend = EngineBackend(
        diffuser,
        engine,
        looks,
        approximations,
        limits,
        ledger,
        request_timeout=settings.request_timeout,
    )
    repository = LookRepository(backend, log_prompts=settings.log_prompts)
    return Server(repository, backend, settings.server, describe(limits))


def describe(limits: Limits) -> Api:
    """What Swagger says: the fields with the ranges of this server."""
    ranges = {
        "prompt": f"at most {limits.max_prompt_chars} characters, 1 to {limits.max_rows} prompts",
        "num_inference_steps": f"1 to {limits.max_steps}",
        "guidance_scale": f"0 to {limits.max_guidance:g}",
        "lora_scale": f"0 to {limits.max_lora_scale:g}",
        "height": f"{limits.min_size} to {limits.max_size} in steps of {limits.size_multiple}",
        "width": f"{limits.min_size} to {limits.max_size} in steps of {limits.size_multiple}",
        "solver": ", ".join(limits.solvers),
        "approximation": ", ".join(limits.approximations),
        "timeout": f"more than 0, at most {MAX_TIMEOUT:g}",
        "priority": "{} to {}".format(*PRIORITIES),
    }
    inputs = "\n".join(
        f"| `{field.name}` | {field.datatype} | {field.description} | {ranges.get(field.name, '')} |"
        for field in contract.INPUTS
    )
    outputs = "\n".join(
        f"| `{field.name}` | {field.datatype} {list(field.shape)} | {field.description} |"
        for field in contract.OUTPUTS
    )
    table = f"| input | datatype | meaning | range |\n|---|---|---|---|\n{inputs}"
    return Api(
        title="emoji predictor",
        version=__version__,
        description="Draws emoji from English sentences. The models are `emoji` (the default look), every "
        "LoRA (`notoemoji`), every exact version (`notoemoji@1`), every alias (`notoemoji@stable`) and every "
        "route, a name whose requests are shared out among versions. The header X-Tenant says who asks: the "
        "server's time is shared out fairly between tenants.",
        infer_description="Draw one picture for each prompt.\n\nAn input holds one value a prompt, or one "
        "value for all; as a request parameter of the same name it holds for all, and the input beats it."
        f"\n\n{table}\n\n| output | datatype | meaning |\n|---|---|---|\n{outputs}\n\n"
        "With the parameter `binary_data_output` (or `binary_data` at an output) the outputs follow the JSON "
        "as raw bytes, and `Inference-Header-Content-Length` is the length of the JSON. Inputs may come in "
        "the same way.",
        infer_example={
            "inputs": [
                {"name": "prompt", "shape": [1], "datatype": "BYTES", "data": ["a red apple"]},
                {"name": "seed", "shape": [1], "datatype": "INT64", "data": [7]},
            ],
            "parameters": {"num_inference_steps": 10, "guidance_scale": 2.0},
        },
        predict_description="Draw one picture for each instance: a prompt, or an object with these fields; "
        f"`parameters` hold for all instances.\n\n{table}\n\nEach prediction is `{{"
        '"image": {"b64": raw pixels, "shape": [height, width, 3], "datatype": "UINT8"}, '
        '"seed": …, "lora": …}`, and its `approximation` where one was used.',
        predict_example={"instances": [{"prompt": "a red apple", "seed": 7}, "a happy cat"]},
        stats=PredictorStats,
    )
