import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.queue import Request, RowQueue
from predictor.row import Row


@pytest.fixture(scope="module")
def make_request():
    loop = asyncio.new_event_loop()
    row = Row("a cat", "", 0, 3, 1.0, (), 8, 8, "ddim")
    yield lambda rows: Request((row,) * rows, loop.create_future())
    loop.close()


@given(
    max_rows=st.integers(1, 8),
    acts=st.lists(
        st.one_of(
            st.tuples(st.just("push"), st.integers(1, 5)),
            st.tuples(st.just("take"), st.integers(0, 5)),
            st.tuples(st.just("discard"), st.integers(0, 9)),
        ),
        max_size=30,
    ),
)
def test_the_queue_is_a_bounded_line_that_loses_nothing(make_request, max_rows, acts):
    queue, line, requests = RowQueue(max_rows), [], []
    for act, number in acts:
        if act == "push":
            request = make_request(number)
            fits = len(line) + number <= max_rows
            assert queue.push(request) is fits
            if fits:
                requests.append(request)
                line += [(request, index) for index in range(number)]
        elif act == "take":
            taken = [(ticket.request, ticket.index) for ticket in queue.take(number)]
            assert taken == line[:number]
            line = line[number:]
        elif number < len(requests):
            queue.discard(requests[number])
            line = [(request, index) for request, index in line if request is not requests[number]]
        assert len(queue) == len(line) <= max_rows
        assert queue.calls() == 3 * len(line)


def picture(value: int) -> np.ndarray:
    return np.full((2, 2, 3), value, dtype=np.uint8)


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
