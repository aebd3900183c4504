import asyncio
import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictor.diffusion.row import Row
from predictor.engine.queue import AGEING_S, REMEMBERED, RowQueue
from predictor.engine.request import Request, Ticket
from predictor.engine.terms import Terms


def make_row(seed=0, steps=3) -> Row:
    fields = dict.fromkeys(Row.__dataclass_fields__)
    return Row(**fields | {"seed": seed, "steps": steps})


@pytest.fixture(scope="module")
def ask():
    """Makes the tickets of a request."""
    loop = asyncio.new_event_loop()

    def make(rows, tenant="", priority=0, arrived=0.0) -> list[Ticket]:
        terms = Terms(tenant=tenant, priority=priority)
        request = Request(tuple(rows), terms, arrived, loop.create_future())
        return [Ticket(request, index) for index in range(len(rows))]

    yield make
    loop.close()


def drain(queue: RowQueue, now=0.0):
    while (ticket := queue.head(now)) is not None:
        queue.take(ticket, ticket.row.steps)
        yield ticket


requests = st.tuples(
    st.lists(st.integers(0, 30), min_size=1, max_size=4),  # the rows' seeds: some are the same
    st.sampled_from("abc"),
    st.integers(-3, 3),
    st.floats(0, 30),  # seconds since the one before
)


@settings(deadline=None)
@given(
    max_rows=st.integers(4, 12),
    acts=st.lists(st.one_of(requests, st.just("take"), st.integers(0, 9)), max_size=40),
)
def test_a_bounded_queue_that_loses_nothing_and_keeps_the_order_of_a_line(ask, max_rows, acts):
    queue, waiting, now, pushed = RowQueue(max_rows), [], 0.0, []
    for act in acts:
        if act == "take":
            head = queue.head(now)
            assert (head is None) == (not waiting)
            if head is None:
                continue
            first = next(ticket for ticket in waiting if ticket.line == head.line)
            assert head == first
            taken = queue.take(head, 1.0)
            assert set(taken) == {ticket for ticket in waiting if ticket.row == head.row}
            waiting = [ticket for ticket in waiting if ticket not in taken]
        elif isinstance(act, int):
            if act < len(pushed):
                queue.discard(pushed[act])
                waiting = [ticket for ticket in waiting if ticket.request is not pushed[act]]
        else:
            seeds, tenant, priority, later = act
            now += later
            tickets = ask([make_row(seed) for seed in seeds], tenant, priority, now)
            rows = {ticket.row for ticket in waiting} | {ticket.row for ticket in tickets}
            given_up = queue.make_room(tickets)
            assert (len(rows) <= max_rows) == (given_up == [])
            if given_up is None:
                continue
            for request in given_up:
                assert request.terms.tenant != tenant
                queue.discard(request)
            waiting = [ticket for ticket in waiting if ticket.request not in given_up] + tickets
            queue.push(tickets)
            pushed.append(tickets[0].request)
        assert len(queue) == len({ticket.row for ticket in waiting}) <= max_rows
        assert set(queue) == set(waiting)
        assert queue.oldest == min((ticket.request.arrived for ticket in waiting), default=math.inf)


@settings(deadline=None)
@given(
    weights=st.fixed_dictionaries({"a": st.floats(0.2, 5), "b": st.floats(0.2, 5), "c": st.just(1.0)}),
    steps=st.lists(st.tuples(*[st.integers(1, 9)] * 3), min_size=1, max_size=15),
)
def test_tenants_that_all_wait_get_shares_by_their_weights(ask, weights, steps):
    """As fair as whole rows can be: nobody is ahead by more than a row of each."""
    queue = RowQueue(1000, weights={"a": weights["a"], "b": weights["b"]})
    for number, three in enumerate(steps):
        for tenant, count in zip("abc", three, strict=True):
            queue.push(ask([make_row((tenant, number), count)], tenant, arrived=float(number)))
    left, given_work = Counter("abc" * len(steps)), Counter()
    largest = {tenant: max(three["abc".index(tenant)] for three in steps) for tenant in "abc"}
    for ticket in drain(queue):
        tenant = ticket.request.terms.tenant
        given_work[tenant] += ticket.row.steps
        left[tenant] -= 1
        if min(left.values()) == 0:
            break
        for one in "abc":
            for other in "abc":
                ahead = given_work[one] / weights[one] - given_work[other] / weights[other]
                assert ahead <= largest[one] / weights[one] + largest[other] / weights[other] + 1e-9


def test_who_was_away_has_saved_up_nothing(ask):
    queue = RowQueue(100)
    for number in range(10):
        queue.push(ask([make_row(("a", number))], "a"))
    for _ in range(8):
        queue.take(queue.head(0.0), 1.0)
    for number in range(4):
        queue.push(ask([make_row(("b", number))], "b", arrived=1.0))
    assert "".join(ticket.request.terms.tenant for ticket in drain(queue)) in (
        "bababb",
        "babbab",
        "abbabb",
        "ababbb",
    )


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), st.floats(0, 60)), min_size=1, max_size=20), st.floats(60, 300))
def test_a_row_is_overtaken_by_more_urgent_ones_for_a_while_only(ask, asked, now):
    queue = RowQueue(100)
    for number, (priority, arrived) in enumerate(sorted(asked, key=lambda pair: pair[1])):
        queue.push(ask([make_row(number)], "a", priority, arrived))
    order = list(drain(queue, now))
    for place, late in enumerate(order):
        for early in order[:place]:
            levels = early.request.terms.priority - late.request.terms.priority
            assert early.request.arrived - late.request.arrived <= levels * AGEING_S + 1e-6


def test_lines_may_be_passed_over(ask):
    queue = RowQueue(100)
    queue.push(ask([make_row(1)], "a", 1))
    queue.push(ask([make_row(2)], "a", 0))
    assert queue.head(0.0, {("a", 1)}).row.seed == 2
    assert queue.head(0.0, {("a", 1), ("a", 0)}) is None


def test_a_full_queue_takes_room_from_who_holds_more_than_its_share(ask):
    queue = RowQueue(8, weights={"big": 3})
    hog = [ask([make_row(("hog", number, index)) for index in range(2)], "hog") for number in range(4)]
    for tickets in hog:
        queue.push(tickets)
    assert queue.make_room(ask([make_row("one more")], "hog")) is None
    assert queue.make_room(ask([make_row(number) for number in range(2)], "other")) == [hog[3][0].request]
    wanted = [make_row(number) for number in range(6)]
    assert queue.make_room(ask(wanted, "other")) is None  # it would then hold more than the hog
    assert queue.make_room(ask(wanted, "big")) == [tickets[0].request for tickets in hog[:0:-1]]
    assert len(queue) == 8  # nobody is put out before the newcomer is let in


def test_work_is_bounded_too_but_one_request_alone_is_taken_whatever_it_costs(ask):
    queue = RowQueue(100, max_seconds=10, seconds=lambda row: row.steps)
    big = ask([make_row(0, 50)])
    assert queue.make_room(big) == []
    queue.push(big)
    assert queue.seconds == 50
    small = ask([make_row(1, 1)])
    assert queue.make_room(small) is None
    assert queue.seconds_until_room(small) == 50
    queue.discard(big[0].request)
    for number in range(2, 7):
        queue.push(ask([make_row(number, 2)], arrived=number))
    assert queue.make_room(small) is None
    assert queue.seconds_until_room(small) == 2
    assert queue.seconds_until_room(ask([make_row(1, 5)])) == 6
    assert queue.make_room(ask([make_row(2, 2)])) == []  # it waits already, and counts once


@settings(deadline=None)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=12), st.integers(1, 4), st.integers(1, 4))
def test_when_that_time_is_over_there_is_room(ask, steps, rows, room):
    """For one that does them one by one, the oldest first."""
    queue = RowQueue(len(steps) + room - 1, seconds=lambda row: row.steps)
    for number, count in enumerate(steps):
        queue.push(ask([make_row(number, count)], arrived=number))
    tickets = ask([make_row(("new", number)) for number in range(min(rows, queue.max_rows))])
    seconds = queue.seconds_until_room(tickets)
    for ticket in drain(queue):
        if queue.make_room(tickets) == [] and not seconds:
            break
        seconds -= ticket.row.steps
        assert seconds >= 0
        assert (queue.make_room(tickets) == []) == (seconds == 0)


def test_strangers_names_do_not_pile_up(ask):
    queue = RowQueue(10)
    queue.push(ask([make_row("always somebody")], "first", priority=-3))
    for number in range(3 * REMEMBERED):
        queue.push(ask([make_row(number)], f"tenant {number}"))
        queue.take(queue.head(0.0), 1.0)
    assert len(queue._used) <= REMEMBERED
