"""Our metrics on a page of Prometheus' text format, and what such metrics have to look like."""

import re

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

UNITS = ("seconds", "bytes", "ratio")
COUNTED = ("requests", "pictures", "rows", "loras", "threads", "hits", "misses")
"""What is counted, where there is no unit."""

NOT_BASE = re.compile(r"milliseconds|microseconds|nanoseconds|minutes|hours|kilobytes|megabytes|_ms|_us|_ns")
TYPES = re.compile(r"(^|_)(counter|gauge|histogram|summary|count|sum|bucket)(_|$)")


def families(text: str) -> dict[str, Metric]:
    """Our own by name; a counter's has no `_total`."""
    return {family.name: family for family in text_string_to_metric_families(text) if ours(family)}


def ours(family: Metric) -> bool:
    # the time at which a counter began is the client library's
    return family.name.startswith("emoji_") and not family.name.endswith("_created")


def check(family: Metric) -> None:
    """The rules of `promtool check metrics`, and base units."""
    name = family.name
    assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
    assert family.type in ("counter", "gauge", "histogram"), name
    assert len(family.documentation) > 10, name
    assert name.endswith(UNITS + COUNTED), f"{name} has no unit"
    assert not NOT_BASE.search(name), f"{name} has no base unit"
    assert not TYPES.search(name), f"{name} tells its type"
    assert family.type != "histogram" or name.endswith(("seconds", "rows")), name
    for sample in family.samples:
        assert sample.name.endswith("_total") == (family.type == "counter"), sample.name
        assert ("le" in sample.labels) == sample.name.endswith("_bucket")
        for label in sample.labels:
            assert re.fullmatch(r"[a-z][a-z_]*", label), label
            assert label not in name or label == "le", f"{name} repeats its label {label}"
