"""A CUDA device for machines that have none: tensors which say they lie on it, computed by the CPU.

As on a real one, tensors of both sides don't mix; copies from one side to the other make the host wait unless
its memory is pinned and they are said not to block; a graph computes again what was computed while it was
captured, at the same addresses, and must not be captured over anything that waits. It doesn't know speed,
kernels, streams or how much memory there is.
"""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Self

import pytest
import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE = torch.device("cuda", 0)
aten = torch.ops.aten
WAITING = (
    aten._local_scalar_dense.default,  # item, bool
    aten.equal.default,
    aten.nonzero.default,
    aten.masked_select.default,
)
INDEXING = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default)


class CudaTensor(torch.Tensor):
    """Seems to lie on the device; `held` has its numbers."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> Self:
        self = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
        )
        self.held = held
        return self  # type: ignore[no-any-return]

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{function} on a device that has been left")


class PretendedCuda(TorchDispatchMode):
    """While it is entered, "cuda" is such a device. `waits` are the lines at which the host waited for it,
    `graphs` those that were captured.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self.graphs: list[Graph] = []
        self.capturing: Graph | None = None
        self._pinned: dict[int, torch.Tensor] = {}  # by address; kept, lest another takes it over

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if function is aten._has_compatible_shallow_copy_type.default:
            return False  # a module that moves gets new parameters
        if function.name().startswith("aten::to."):
            with self:
                return function.decompose(*args, **kwargs)
        if function in (aten._to_copy.default, aten.copy_.default):
            return self._copy(function, args, kwargs)
        tensors = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        there = any(isinstance(tensor, CudaTensor) for tensor in tensors)
        pinned = kwargs.pop("pin_memory", False)
        if kwargs.get("device") is not None:
            there = torch.device(kwargs["device"]).type == "cuda"
            kwargs["device"] = "cpu"
        elif there:
            for tensor in tensors:
                assert isinstance(tensor, CudaTensor) or tensor.ndim == 0, f"{function} mixes devices"
            if function in WAITING or (function in INDEXING and _by_mask(args[1])):
                self._wait(function)
        result = self._compute(function, args, kwargs, there)
        if pinned:
            self._pinned[result.data_ptr()] = result
        return result

    def _copy(self, function: Any, args: Any, kwargs: Any) -> Any:
        if function is aten.copy_.default:
            target, source, *rest = args
            there, blocking = isinstance(target, CudaTensor), not (rest and rest[0])
        else:
            target, source = None, args[0]
            device = kwargs.pop("device", None)
            there = isinstance(source, CudaTensor) if device is None else torch.device(device).type == "cuda"
            blocking = not kwargs.pop("non_blocking", False)
            kwargs.pop("pin_memory", None)
        if there is not isinstance(source, CudaTensor):
            host = source if there else target
            if blocking or host is None or host.data_ptr() not in self._pinned:
                self._wait(function)
        return self._compute(function, args, kwargs, there)

    def _compute(self, function: Any, args: Any, kwargs: Any, there: bool) -> Any:
        args, kwargs = pytree.tree_map_only(CudaTensor, lambda tensor: tensor.held, (args, kwargs))
        result = function(*args, **kwargs)
        if there and self.capturing is not None:
            self.capturing.calls.append((function, args, kwargs, result))
        return pytree.tree_map_only(torch.Tensor, CudaTensor, result) if there else result

    def _wait(self, function: Any) -> None:
        assert self.capturing is None, f"{function} while a graph is captured"
        lines = [
            f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.line}"
            for frame in traceback.extract_stack()
            if "/predictor/" in frame.filename and "/tests/" not in frame.filename
        ]
        self.waits.append(f"{lines[-1] if lines else '?'}: {function}")


class Graph:
    """In the place of torch.cuda.CUDAGraph."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        self.replays = 0

    def replay(self) -> None:
        """Computes again what was captured, from what is at the same addresses now, to the same addresses."""
        self.replays += 1
        for function, args, kwargs, result in self.calls:
            arguments = {_address(leaf) for leaf in _tensors((args, kwargs))}
            for old, new in zip(_tensors(result), _tensors(function(*args, **kwargs)), strict=True):
                if _address(old) not in arguments:  # neither a view nor computed in place
                    old.copy_(new)


class Event:
    """In the place of torch.cuda.Event: whatever is computed here is done at once."""

    def record(self) -> None:
        """Behind all that was computed."""

    def synchronize(self) -> None:
        """Nothing to wait for."""


class Stream:
    """In the place of torch.cuda.Stream: there is one order."""

    def wait_stream(self, other: Self) -> None:
        """Nothing to wait for."""


@contextmanager
def pretended_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[PretendedCuda]:
    """Within it, device "cuda" is a pretended one; all in inference mode."""
    mode = PretendedCuda()

    @contextmanager
    def capturing(graph: Graph, pool: object, capture_error_mode: str) -> Iterator[None]:
        mode.graphs.append(graph)
        mode.capturing = graph
        yield
        mode.capturing = None

    with monkeypatch.context() as patch:
        torch._C._ensureCUDADeviceGuardSet()  # type: ignore[attr-defined]  # as FakeTensorMode does
        patch.setattr(torch.cuda, "_lazy_init", lambda: None)
        patch.setattr(torch.cuda, "Event", Event)
        patch.setattr(torch.cuda, "Stream", Stream)
        patch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
        patch.setattr(torch.cuda, "current_stream", Stream)
        patch.setattr(torch.cuda, "CUDAGraph", Graph)
        patch.setattr(torch.cuda, "graph", capturing)
        patch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 0))
        with torch.inference_mode(), mode:
            yield mode


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _address(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _by_mask(indices: Any) -> bool:
    return any(index is not None and index.dtype == torch.bool for index in indices)
