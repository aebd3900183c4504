import asyncio
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictor.diffusion.row import Row
from predictor.engine.request import Request
from predictor.engine.terms import Terms


@pytest.fixture(scope="module")
def make_request():
    loop = asyncio.new_event_loop()
    row = Row(**dict.fromkeys(Row.__dataclass_fields__))
    yield lambda rows, **terms: Request((row,) * rows, Terms(**terms), 5.0, loop.create_future())
    loop.close()


def picture(value: int) -> np.ndarray:
    return np.full((2, 2, 3), value, dtype=np.uint8)


@settings(deadline=None)
@given(order=st.permutations(range(4)))
def test_a_reply_has_its_pictures_in_the_order_of_the_rows(make_request, order):
    request = make_request(4)
    for index in order:
        assert not request.reply.done()
        request.deliver(index, picture(index))
    assert request.reply.result()[:, 0, 0, 0].tolist() == [0, 1, 2, 3]


def test_a_reply_ends_once(make_request):
    request = make_request(1)
    request.fail(ValueError("first"))
    request.fail(ValueError("second"))
    request.deliver(0, picture(1))
    with pytest.raises(ValueError, match="first"):
        request.reply.result()


def test_a_deadline_counts_from_the_arrival(make_request):
    assert make_request(1, timeout=2.5).deadline == 7.5
    assert make_request(1).deadline == math.inf
