import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from predictor.engine.memory import FIRST_PATIENCE, LAST_PATIENCE, MemoryLimit, is_out_of_memory


def test_without_a_failure_there_is_no_limit():
    assert MemoryLimit().allows(1e30)


@settings(deadline=None)
@given(room=st.floats(1, 100), wanted=st.floats(1, 1000))
def test_it_finds_what_fits_and_tries_ever_more_rarely_beyond(room, wanted):
    limit, failures = MemoryLimit(), []
    for call in range(20_000):
        size = wanted if limit.allows(wanted) else limit.size
        if size <= room:
            limit.went_well(size)
        else:
            failures.append(call)
            limit.ran_out(size)
    if wanted <= room:
        assert failures == []
    else:
        assert limit.size is not None
        assert sum(call < 1000 for call in failures) < 20
        assert sum(call >= 10_000 for call in failures) < 10


@settings(deadline=None)
@given(st.floats(1, 1000))
def test_memory_that_was_short_for_a_moment_is_used_again(size):
    limit = MemoryLimit()
    limit.ran_out(size)
    assert not limit.allows(size)
    for _ in range(4 * FIRST_PATIENCE):
        limit.went_well(size if limit.size is None else min(size, limit.size))
    assert limit.allows(1e30)


def test_small_calls_tell_nothing():
    limit = MemoryLimit()
    limit.ran_out(8)
    for _ in range(LAST_PATIENCE):
        limit.went_well(1)
    assert limit.size == 4


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (torch.OutOfMemoryError(), True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried …"), True),
        (torch.AcceleratorError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered"), False),
        (RuntimeError("shape mismatch"), False),
    ],
)
def test_every_kind_of_memory_is_recognised(error, wanted):
    assert is_out_of_memory(error) is wanted
