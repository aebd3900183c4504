"""The edge of a KServe server: everything between the sockets and a `kserve.Model`.

One REST and one gRPC server with the same errors, readiness, limits, log lines and graceful stop. Both the
predictor and the transformer run on it; it knows no torch, no tensors' names and no pictures.
"""

from predictor.edge.api import Api
from predictor.edge.backend import Backend
from predictor.edge.copying import copy_pixels
from predictor.edge.dataplane import ServingDataPlane
from predictor.edge.deadline import time_left
from predictor.edge.logs import configure_logging, event, log
from predictor.edge.server import PortInUse, Server
from predictor.edge.settings import (
    ServerSettings,
    add_server_flags,
    positive,
    read_server_settings,
    seconds,
)
from predictor.edge.spans import client_span, past_span, span
from predictor.edge.statistics import Duration, Statistics, StatsReply

__all__ = [
    "Api",
    "Backend",
    "Duration",
    "PortInUse",
    "Server",
    "ServerSettings",
    "ServingDataPlane",
    "Statistics",
    "StatsReply",
    "add_server_flags",
    "client_span",
    "configure_logging",
    "copy_pixels",
    "event",
    "log",
    "past_span",
    "positive",
    "read_server_settings",
    "seconds",
    "span",
    "time_left",
]
