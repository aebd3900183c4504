"""`python -m rollout`: status, canary, promote, rollback, auto.

The only file of this room that reads argv, handles signals and writes to the terminal.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import NoReturn

from rollout.alias import refuse_alias
from rollout.api import Api
from rollout.auto import Auto
from rollout.cluster import Cluster
from rollout.driver import Driver
from rollout.errors import EXIT_USAGE, Interrupted, RolledBack, RolloutError, TimedOut, Unavailable
from rollout.lease import Lease
from rollout.plan import Canary, Promote, Rollback
from rollout.report import as_json, as_text
from rollout.verdict import Limits, Pace

EPILOG = """\
exit status:
  0   done
  1   refused, or impossible: nothing was changed, or what was is said
  2   rolled back: the new look never got ready, or was judged bad
  3   stopped on the way, by Ctrl-C or a timeout; the traffic stays as it is,
      and the same command goes on from there
  64  wrong arguments

examples:
  python -m rollout status
  python -m rollout canary --to openmoji@1 --percent 10
  python -m rollout promote
  python -m rollout rollback
  python -m rollout auto --to openmoji@1 --steps 10,50,100 --every 60s --max-error-rate 1% --max-p95 5s
"""
LOOK = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(@[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?")
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}


class _Parser(argparse.ArgumentParser):
    """argparse's exit status for wrong arguments is 2, which here says that something was rolled back."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"{self.prog}: error: {message}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    options = _parser().parse_args(argv)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        api = Api(options.context, options.namespace)
        cluster = Cluster(api, options.service)
        if options.command == "status":
            _status(cluster, options)
            return 0
        with Lease(api, options.service) as lease:
            driver = Driver(cluster, lease, stop, _tell, options.timeout)
            return _change(cluster, driver, options)
    except RolloutError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status


def _change(cluster: Cluster, driver: Driver, options: argparse.Namespace) -> int:
    """Run a command that changes something, and leave a record of how it ended."""
    try:
        if options.command != "rollback":  # the way back is always open
            refuse_alias(cluster, _tell)
        reached = options.run(driver, options)
    except RolledBack as error:
        _record(cluster, "Warning", "RolledBack", str(error))
        print(error, file=sys.stderr)
        return error.exit_status
    except RolloutError as error:
        if not driver.changed and not isinstance(error, Interrupted | TimedOut | Unavailable):
            raise
        now = _summary(cluster)
        _record(cluster, "Warning", "RolloutStopped", f"`{options.command}`: {error}. {now}")
        print(
            f"stopped: {error}. Now: {now}. The same command goes on; `rollback` goes back.", file=sys.stderr
        )
        return error.exit_status
    _record(cluster, "Normal", f"Rollout{options.command.capitalize()}", reached)
    return 0


def _status(cluster: Cluster, options: argparse.Namespace) -> None:
    state, events = cluster.read(), cluster.events()
    if options.output == "json":
        print(json.dumps(as_json(state, events), indent=2, ensure_ascii=False))
    else:
        print(as_text(state, events))


def _canary(driver: Driver, options: argparse.Namespace) -> str:
    return driver.reach_canary(Canary(options.to, options.percent), options.keep)


def _promote(driver: Driver, options: argparse.Namespace) -> str:
    return driver.reach(Promote())


def _rollback(driver: Driver, options: argparse.Namespace) -> str:
    return driver.reach(Rollback())


def _auto(driver: Driver, options: argparse.Namespace) -> str:
    limits = Limits(
        max_error_rate=options.max_error_rate,
        max_p95=options.max_p95,
        max_error_rate_over_stable=options.max_error_rate_over_stable,
        max_p95_times_stable=options.max_p95_times_stable,
        max_restarts=options.max_restarts,
        min_requests=options.min_requests,
    )
    pace = Pace(every=options.every, max_wait=options.max_wait)
    return Auto(driver, options.steps, limits, pace).run(options.to)


def _tell(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def _summary(cluster: Cluster) -> str:
    try:
        return cluster.read().summary()
    except RolloutError as error:
        return f"not known ({error})"


def _record(cluster: Cluster, kind: str, reason: str, note: str) -> None:
    try:
        cluster.record(kind, reason, note)
    except RolloutError as error:
        _tell(f"no event was written: {error}")


def _parser() -> _Parser:
    parser = _Parser(
        prog="python -m rollout",
        description="Moves the traffic of an InferenceService from one look to another, and back.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    shared = _Parser(add_help=False)
    where = shared.add_argument_group("where")
    where.add_argument("--namespace", "-n", help="default: that of the context, or of the pod")
    where.add_argument(
        "--service", default="emoji", metavar="NAME", help="the InferenceService (%(default)s)"
    )
    where.add_argument("--context", help="of the kubeconfig (default: its current one)")
    waiting = _Parser(add_help=False)
    waiting.add_argument(
        "--timeout", type=_duration, default=600.0, metavar="TIME", help="for each change of traffic (10m)"
    )

    def add(name: str, text: str, run: Callable[[Driver, argparse.Namespace], str]) -> _Parser:
        command = commands.add_parser(name, help=text, description=text, parents=[shared, waiting])
        command.set_defaults(run=run)
        return command

    text = "show the looks, their traffic and pods, and why one is not ready"
    command = commands.add_parser("status", help=text, description=text, parents=[shared])
    command.add_argument("--output", "-o", choices=["text", "json"], default="text", help="(%(default)s)")

    command = add(
        "canary", "give a new look a share of the traffic; one that never gets ready is rolled back", _canary
    )
    command.add_argument("--to", type=_look, required=True, metavar="LOOK", help="such as openmoji@1")
    command.add_argument("--percent", type=_canary_percent, required=True, metavar="P", help="from 1 to 99")
    command.add_argument(
        "--keep", action="store_true", help="leave a look that never gets ready, to look at it"
    )

    add("promote", "give the canary's look all the traffic", _promote)
    add(
        "rollback",
        "take the canary back; without one, go back to the look before the last promotion",
        _rollback,
    )

    command = add(
        "auto", "a canary in steps: go on while it is good, roll back by itself when it is bad", _auto
    )
    command.add_argument("--to", type=_look, required=True, metavar="LOOK", help="such as openmoji@1")
    command.add_argument(
        "--steps",
        type=_steps,
        default=[10, 50, 100],
        metavar="P,P,…",
        help="percent; 100 promotes (10,50,100)",
    )
    command.add_argument(
        "--every", type=_duration, default=60.0, metavar="TIME", help="watch a step so long (60s)"
    )
    command.add_argument(
        "--max-wait",
        type=_duration,
        default=600.0,
        metavar="TIME",
        help="wait so long for --min-requests (10m)",
    )
    limits = command.add_argument_group(
        "limits", "Of the new look, in each step. Errors are replies 5xx; a 4xx is the client's fault."
    )
    limits.add_argument(
        "--min-requests", type=_count, default=20, metavar="N", help="judge none by fewer (%(default)s)"
    )
    limits.add_argument(
        "--max-error-rate", type=_rate, default=0.01, metavar="R", help="such as 0.01 or 1%% (1%%)"
    )
    limits.add_argument("--max-p95", type=_duration, metavar="TIME", help="such as 5s or 800ms (none)")
    limits.add_argument(
        "--max-error-rate-over-stable",
        type=_rate,
        metavar="R",
        help="more than the old look's, at the same time (none)",
    )
    limits.add_argument(
        "--max-p95-times-stable",
        type=_factor,
        metavar="X",
        help="times the old look's, at the same time (none)",
    )
    limits.add_argument(
        "--max-restarts", type=_count, default=0, metavar="N", help="of predictors (%(default)s)"
    )
    return parser


def _look(text: str) -> str:
    if not LOOK.fullmatch(text):
        raise argparse.ArgumentTypeError("must be a look such as openmoji@1")
    return text


def _canary_percent(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 99:
        raise argparse.ArgumentTypeError("must be a whole number from 1 to 99; for 100, promote")
    return int(text)


def _steps(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.isdecimal() and 1 <= int(part) <= 100 for part in parts):
        raise argparse.ArgumentTypeError("must be whole numbers from 1 to 100, such as 10,50,100")
    steps = [int(part) for part in parts]
    if sorted(set(steps)) != steps:
        raise argparse.ArgumentTypeError("must rise")
    return steps


def _duration(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|)", text)
    if not found or not float(found[1]):
        raise argparse.ArgumentTypeError("must be a time such as 500ms, 60s or 10m")
    return float(found[1]) * UNITS[found[2]]


def _rate(text: str) -> float:
    try:
        rate = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        rate = -1.0
    if not 0 <= rate <= 1:
        raise argparse.ArgumentTypeError("must be a rate from 0 to 1, or from 0% to 100%")
    return rate


def _factor(text: str) -> float:
    try:
        factor = float(text)
    except ValueError:
        factor = -1.0
    if not 0 < factor < 1000:
        raise argparse.ArgumentTypeError("must be a factor such as 1.5")
    return factor


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError("must be a whole number")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
