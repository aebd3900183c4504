"""The store after a writer died: at every single file operation, and by real SIGKILLs at random moments."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.weights.loras import make_manifest, make_tensors
from weights.store import Store

State = tuple[list[tuple[str, int, str]], dict[str, dict[str, int]], Mapping[str, Mapping[str, int]]]


class KilledError(BaseException):
    """No handler of errors may catch it, as none sees a SIGKILL."""


def state_of(store: Store) -> State:
    """What a reader sees; every version is loaded, so that a damaged one fails here."""
    seen = []
    for version in store.versions():
        store.load(version)
        seen.append((version.name, version.version, version.manifest.source))
    return seen, store.aliases(), store.routes()


@contextmanager
def dying_at(step: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """From file operation number `step` on, none is carried out any more; yields those that were."""
    done: list[str] = []

    def guarded(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if len(done) >= step:
                raise KilledError(name)
            result = real(*arguments, **options)
            done.append(name)
            return result

        return call

    with monkeypatch.context() as patch:
        for name in ("mkdir", "rename", "replace", "fsync", "unlink", "rmdir"):
            patch.setattr(os, name, guarded(name, getattr(os, name)))
        yield done


def add_first(store: Store) -> None:
    store.add(make_tensors(8), make_manifest("openmoji", "first"), alias="stable")


def add_next(store: Store) -> None:
    store.add(make_tensors(9), make_manifest(source="next"), alias="stable")


def move_alias(store: Store) -> None:
    store.set_alias("stable", store.resolve("notoemoji@2"))


def drop_alias(store: Store) -> None:
    store.remove_alias("notoemoji", "stable")


def remove(store: Store) -> None:
    store.remove("notoemoji", 1, force=True)


def set_route(store: Store) -> None:
    store.set_route("emoji", {"notoemoji@1": 90, "notoemoji@2": 10})


@pytest.mark.parametrize("change", [add_first, add_next, move_alias, drop_alias, remove, set_route])
def test_dying_at_any_file_operation_leaves_the_old_or_the_new(
    change: Callable[[Store], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare(root: Path) -> Store:
        store = Store(root)
        store.add(make_tensors(1), make_manifest(source="one"), alias="stable")
        store.add(make_tensors(2), make_manifest(source="two"))
        return store

    finished = prepare(tmp_path / "finished")
    old = state_of(finished)
    change(finished)
    new = state_of(finished)
    assert old != new
    seen = []
    for step in range(100):
        store = prepare(tmp_path / str(step))
        with dying_at(step, monkeypatch) as done:
            try:
                change(store)
            except KilledError:
                pass
            else:
                break
        seen.append(state_of(store) == new)
        assert state_of(store) in (old, new), f"killed after {done}"
        # The next writer works, and nothing of the dead one remains but what was committed.
        add_next(store)
        assert not list(store.root.glob(".tmp-*"))
        listed = {(name, str(number)) for name, number in store.references() if name == "notoemoji"}
        assert {("notoemoji", path.name) for path in (store.root / "notoemoji").glob("[0-9]*")} == listed
    assert len(seen) == step >= 3, "the change does nothing that could be interrupted"
    assert seen == sorted(seen), "once the new state is there, it stays"
    assert not seen[0]


ROUNDS = 24


def test_killed_writers_leave_the_old_or_the_new(tmp_path: Path) -> None:
    """Runs this file as a program, which forks writers and kills them (see `kill_writers`)."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.weights.test_store_kill", str(tmp_path / "loras")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert told["rounds"] == ROUNDS
    assert told["changes"] >= ROUNDS


def plan(state: State, turn: int, number: int) -> tuple[Callable[[Store], object], State]:
    """A change, and the state that must come out of it; `number` is what an addition would get."""
    seen, aliases, routes = state
    held = aliases.get("notoemoji", {})
    oldest = seen[0][1]
    if len(seen) < 3 or turn % 3 == 0:
        source = f"addition {number}"
        return (
            lambda store: store.add(make_tensors(number), make_manifest(source=source), alias="stable"),
            ([*seen, ("notoemoji", number, source)], {"notoemoji": {**held, "stable": number}}, routes),
        )
    if turn % 3 == 1:
        return (
            lambda store: store.set_alias("canary", store.resolve(f"notoemoji@{oldest}")),
            (seen, {"notoemoji": {**held, "canary": oldest}}, routes),
        )
    kept = {alias: at for alias, at in held.items() if at != oldest}
    return (
        lambda store: store.remove("notoemoji", oldest, force=True),
        (seen[1:], {"notoemoji": kept}, routes),
    )


def write_on(store: Store, journal: int) -> None:
    """Changes the store without end; the journal gets each next state twice, at its begin and its end."""
    state = state_of(store)
    number = max(number for _, number, _ in state[0])
    for turn in itertools.count():
        before = state
        change, state = plan(before, turn, number + 1)
        number += len(state[0]) > len(before[0])
        line = (json.dumps(state, sort_keys=True) + "\n").encode()
        os.write(journal, line)
        change(store)
        os.write(journal, line)


def kill_writers(root: Path) -> None:
    """Lets each writer finish a few changes, kills it somewhere within the next one, and reads the store."""
    store = Store(root)
    store.add(make_tensors(0), make_manifest(source="first"))
    moments = random.Random(7)
    changes = 0
    for turn in range(ROUNDS):
        lines = [json.dumps(state_of(store), sort_keys=True)] * 2
        reading, journal = os.pipe()
        writer = os.fork()
        if not writer:
            os.close(reading)
            write_on(store, journal)
        os.close(journal)
        with open(reading) as stream:
            for _ in range(2 * moments.randint(1, 3)):
                began = time.monotonic()
                lines.append(stream.readline().strip())
            time.sleep(moments.random() * (time.monotonic() - began))
            os.kill(writer, signal.SIGKILL)
            os.waitpid(writer, 0)
            lines += stream.read().split("\n")[:-1]
        # What was acknowledged is there; beyond it at most the one change that was under way.
        after = json.dumps(state_of(store), sort_keys=True)
        if after not in lines[-1 - len(lines) % 2 :]:
            raise SystemExit(f"round {turn}: {after} after {lines}")
        changes += len(lines) // 2 - 1
    print(json.dumps({"rounds": ROUNDS, "changes": changes}))


if __name__ == "__main__":
    kill_writers(Path(sys.argv[1]))
