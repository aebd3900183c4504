"""What the generated API documentation says about one server."""

from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter

from predictor.edge.statistics import StatsReply


@dataclass(frozen=True, slots=True)
class Api:
    """Texts (Markdown) and examples for Swagger at /docs, and the routes that only this server has."""

    title: str
    version: str
    description: str
    infer_description: str
    infer_example: dict[str, Any] = field(default_factory=dict)
    predict_description: str = ""
    predict_example: dict[str, Any] = field(default_factory=dict)
    routers: tuple[APIRouter, ...] = ()
    stats: type[StatsReply] = StatsReply
