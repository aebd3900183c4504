"""One rollout at a time: a Lease of the API server, renewed while a command runs, deleted at its end.

The Lease keeps two commands from taking turns; that neither overwrites the other is by resourceVersion, in
every write.
"""

from __future__ import annotations

import contextlib
import datetime
import getpass
import os
import socket
import time
import uuid
from types import TracebackType

from rollout.api import Api
from rollout.errors import Conflict, NotFound, Refused, RolloutError, Unavailable
from rollout.plan import Json

SECONDS = 60
"""A Lease that was not renewed for so long belongs to a command that died."""
RENEW_SECONDS = 5.0


class Lease:
    """Held inside `with`."""

    def __init__(self, api: Api, service: str) -> None:
        self._api = api
        self._name = f"{service}-rollout"
        self._holder = f"{_user()}@{socket.gethostname()} {os.getpid()} {uuid.uuid4().hex[:8]}"
        self._lease: Json = {}
        self._renewed = 0.0

    def __enter__(self) -> Lease:
        held = self._read()
        holder = held.get("spec", {}).get("holderIdentity")
        if holder and _age(held["spec"].get("renewTime", "")) < SECONDS:
            raise Refused(f"another rollout is at work: {holder} (Lease {self._name})")
        metadata = held.get("metadata", {"name": self._name, "namespace": self._api.namespace})
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": self._spec(),
        }
        try:
            self._lease = self._api.replace(body) if held else self._api.create(body)
        except Conflict as error:
            raise Refused(f"another rollout has just begun (Lease {self._name})") from error
        self._renewed = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Where it fails it is another's by now, or it runs out by itself.
        with contextlib.suppress(RolloutError):
            try:
                self._api.delete(self._lease)
            except Conflict:
                self._read_ours()
                self._api.delete(self._lease)

    def renew(self) -> None:
        """Say that the command still runs; Refused where the Lease was taken over."""
        if time.monotonic() - self._renewed < RENEW_SECONDS:
            return
        try:
            self._lease = self._api.replace({**self._lease, "spec": self._spec()})
            self._renewed = time.monotonic()
        except Conflict:
            self._read_ours()
        except NotFound as error:
            raise Refused(f"another rollout took over (Lease {self._name})") from error
        except Unavailable:
            if time.monotonic() - self._renewed > SECONDS:
                raise

    def _read(self) -> Json:
        """The Lease that is there; empty where there is none."""
        try:
            return self._api.get("Lease", self._name)
        except NotFound:
            return {}

    def _read_ours(self) -> None:
        """After a Conflict: ours all the same where an earlier renewal arrived, and its answer did not."""
        held = self._read()
        if held.get("spec", {}).get("holderIdentity") != self._holder:
            raise Refused(f"another rollout took over (Lease {self._name})")
        self._lease = held

    def _spec(self) -> Json:
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {"holderIdentity": self._holder, "leaseDurationSeconds": SECONDS, "renewTime": now}


def _age(written: str) -> float:
    """Seconds since a time of the API server's format; without one, long ago."""
    if not written:
        return float("inf")
    then = datetime.datetime.fromisoformat(written)
    return (datetime.datetime.now(datetime.UTC) - then).total_seconds()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())  # a pod's user needs no name
