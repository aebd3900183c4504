"""The rows waiting for a place in the batch: bounded, and shared fairly between tenants.

Tenants take turns by the work they have been given over their weight (start-time fair queueing). A tenant's
own rows go by priority, and a row rises by one for every AGEING_S it waits, so that none waits for ever. Rows
of one tenant and priority keep their order. Equal rows wait together and count once.

It doesn't know clocks, threads, or what a picture is drawn with.
"""

import math
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from predictor.diffusion.row import Row
from predictor.engine.request import Request, Ticket

AGEING_S = 10.0
"""Seconds of waiting that make up for one level of priority."""

REMEMBERED = 1024
"""Tenants that have nothing waiting, but whose past share still counts; the oldest are forgotten first."""


class RowQueue:
    """At most `max_rows` rows, and at most `max_seconds` of work where `seconds` says how long a row takes.

    `weights` are the tenants' shares; one that isn't named has 1.
    """

    def __init__(
        self,
        max_rows: int,
        *,
        max_seconds: float = math.inf,
        seconds: Callable[[Row], float] = lambda row: 0.0,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        self.max_rows = max_rows
        self.max_seconds = max_seconds
        self._seconds = seconds
        self._weights = dict(weights or {})
        self._lines: dict[str, dict[int, deque[Ticket]]] = {}  # by tenant and priority; none is empty
        self._rows: Counter[Row] = Counter()
        self._now = 0.0  # the virtual time: work given to a tenant of weight 1
        self._used: dict[str, float] = {}  # virtual time up to which a tenant has had its share

    def __len__(self) -> int:
        """Different rows that wait."""
        return len(self._rows)

    def __contains__(self, row: Row) -> bool:
        return row in self._rows

    def __iter__(self) -> Iterator[Ticket]:
        """All tickets, tenant by tenant and line by line."""
        for lines in self._lines.values():
            for line in lines.values():
                yield from line

    @property
    def seconds(self) -> float:
        """How long the waiting rows will take."""
        return sum(map(self._seconds, self._rows))

    @property
    def oldest(self) -> float:
        """When the request arrived that waits longest; infinite where none waits."""
        heads = (line[0].request.arrived for lines in self._lines.values() for line in lines.values())
        return min(heads, default=math.inf)

    def make_room(self, tickets: Sequence[Ticket]) -> list[Request] | None:
        """The requests to give up so that tickets of one request fit, none where they do; None: they can't.

        Given up is the newest and least urgent of the tenant that holds the most for its weight, and only
        as long as that is more than the newcomer's tenant will hold.
        """
        new = Counter(ticket.row for ticket in tickets)
        if self._have_room(new):
            return []
        rows = self._rows + new
        (own, _), given_up = tickets[0].line, list[Request]()
        held = {
            tenant: Counter(ticket.row for line in lines.values() for ticket in line)
            for tenant, lines in self._lines.items()
        }
        held.setdefault(own, Counter()).update(new)
        newest = {tenant: self._newest(tenant) for tenant in self._lines}
        while not self._fit(rows) and rows.keys() - new.keys():
            most = max(held, key=lambda tenant: self._share(tenant, held[tenant]))
            if most == own or self._share(most, held[most]) <= self._share(own, held[own]):
                return None
            victim, waiting = next(newest[most])
            given_up.append(victim)
            freed = Counter(ticket.row for ticket in waiting)
            rows -= freed
            held[most] -= freed
        return given_up if self._fit(rows) or len(rows) <= self.max_rows else None

    def seconds_until_room(self, tickets: Sequence[Ticket]) -> float:
        """The work of the waiting rows that have to leave before these fit, the oldest first."""
        waiting = {ticket.row: ticket.request.arrived for ticket in self}
        new = {ticket.row for ticket in tickets} - waiting.keys()
        count, work = len(waiting) + len(new), self.seconds + sum(map(self._seconds, new))
        seconds = 0.0
        for row in sorted(waiting, key=waiting.__getitem__):
            if count <= self.max_rows and work - seconds <= self.max_seconds:
                break
            count -= 1
            seconds += self._seconds(row)
        return seconds

    def push(self, tickets: Sequence[Ticket]) -> None:
        """Appends tickets of one request; `make_room` has said that they fit."""
        tenant, priority = tickets[0].line
        self._lines.setdefault(tenant, {}).setdefault(priority, deque()).extend(tickets)
        self._rows.update(ticket.row for ticket in tickets)

    def head(self, now: float, passed_over: Collection[tuple[str, int]] = ()) -> Ticket | None:
        """Whose turn it is, leaving aside the lines passed over; None: nobody waits in the others."""
        best: tuple[float, float] = math.inf, math.inf
        found: Ticket | None = None
        for tenant, lines in self._lines.items():
            heads = [line[0] for line in lines.values() if line[0].line not in passed_over]
            if not heads:
                continue
            head = max(heads, key=lambda ticket: _urgency(ticket, now))
            rank = self._start(tenant), head.request.arrived
            if rank < best or found is None:
                best, found = rank, head
        return found

    def take(self, head: Ticket, work: float) -> list[Ticket]:
        """Removes the ticket that `head` gave, and all others that wait for the same row.

        Its tenant has then been given `work`, in any unit that is the same for all.
        """
        tenant = head.request.terms.tenant
        self._now = self._start(tenant)
        self._used.pop(tenant, None)
        self._used[tenant] = self._now + work / self._weight(tenant)
        same = [head]
        if self._rows[head.row] > 1:
            same += [ticket for ticket in self if ticket.row == head.row and ticket != head]
        self._remove(same)
        return same

    def discard(self, request: Request) -> None:
        """Removes what still waits of a request."""
        line = self._lines.get(request.terms.tenant, {}).get(request.terms.priority, ())
        self._remove([ticket for ticket in line if ticket.request is request])

    def _remove(self, tickets: Collection[Ticket]) -> None:
        gone = set(tickets)
        for tenant, priority in {ticket.line for ticket in tickets}:
            lines = self._lines[tenant]
            line = lines[priority]
            if gone == {line[0]}:
                line.popleft()
            else:
                line = lines[priority] = deque(ticket for ticket in line if ticket not in gone)
            if not line:
                del lines[priority]
            if not lines:
                del self._lines[tenant]
        for ticket in tickets:
            self._rows[ticket.row] -= 1
            if not self._rows[ticket.row]:
                del self._rows[ticket.row]
        if not self._lines:  # nobody waits for anybody: the past is settled
            self._now = 0.0
            self._used.clear()
        elif len(self._used) > REMEMBERED:
            del self._used[next(iter(self._used))]

    def _start(self, tenant: str) -> float:
        """The virtual time of a tenant's turn: who had less comes first, but idling saves up nothing."""
        return max(self._now, self._used.get(tenant, 0.0))

    def _have_room(self, new: Mapping[Row, int]) -> bool:
        """Whether these fit as it is: every request asks, so nothing is counted that needn't be."""
        new_rows = new.keys() - self._rows.keys()
        if len(self) + len(new_rows) > self.max_rows:
            return False
        return (
            not len(self)
            or math.isinf(self.max_seconds)
            or self.seconds + sum(map(self._seconds, new_rows)) <= self.max_seconds
        )

    def _fit(self, rows: Counter[Row]) -> bool:
        return len(rows) <= self.max_rows and sum(map(self._seconds, rows)) <= self.max_seconds

    def _share(self, tenant: str, rows: Counter[Row]) -> float:
        """How much of the queue's room these rows are, over the tenant's weight."""
        room = max(len(rows) / self.max_rows, sum(map(self._seconds, rows)) / self.max_seconds)
        return room / self._weight(tenant)

    def _newest(self, tenant: str) -> Iterator[tuple[Request, list[Ticket]]]:
        """A tenant's requests, the least urgent and newest first."""
        for _, line in sorted(self._lines[tenant].items()):
            for request in reversed(dict.fromkeys(ticket.request for ticket in line)):
                yield request, [ticket for ticket in line if ticket.request is request]

    def _weight(self, tenant: str) -> float:
        return self._weights.get(tenant, 1.0)


def _urgency(ticket: Ticket, now: float) -> tuple[float, float]:
    arrived = ticket.request.arrived
    return ticket.request.terms.priority + (now - arrived) / AGEING_S, -arrived
