"""Where spans go: OpenTelemetry's SDK, which sends them by OTLP over HTTP to a collector, beside the serving.

It is imported only where a collector is named. What the SDK reads from the environment by itself holds as its
documentation says: OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER,
OTEL_EXPORTER_OTLP_HEADERS, OTEL_BSP_…
"""

import asyncio
import socket
import threading

from opentelemetry import trace

STOP_S = 2.0
"""How long the last spans may take to be sent; a collector that is away holds up no stopping server."""


class Collector:
    """Set up once in a process: the API's global provider takes no second one."""

    def __init__(self, endpoint: str, service: str, version: str) -> None:
        """`endpoint` is the URL that spans are posted to; `service` the name if the environment has none."""
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        own = {"service.name": service, "service.version": version, "host.name": socket.gethostname()}
        resource = Resource.create(own).merge(OTELResourceDetector().detect())
        # at exit it would wait for a collector that is away, and `stop` has been called by then
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint)))
        trace.set_tracer_provider(self._provider)

    async def stop(self) -> None:
        """Send what is left, as far as that can be done in `STOP_S` seconds."""
        # a daemon, which the end of the process doesn't wait for
        sending = threading.Thread(target=self._provider.shutdown, daemon=True)
        sending.start()
        await asyncio.to_thread(sending.join, STOP_S)
