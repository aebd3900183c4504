"""Pods of a simulated cluster whose metrics tell of good looks, failing ones and slow ones."""

import threading

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

GOOD, FAILING, SLOW = [("200", 0.5), ("404", 0.1)], [("200", 0.5), ("500", 0.5)], [("200", 4.5)]


class Pods:
    """A pod for each version, as it appears, that serves requests as its look does, for `auto` to judge."""

    def __init__(self, server, behaviour):
        self.server, self.behaviour = server, behaviour
        self._counters = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self):
        self._thread.start()

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _serve(self):
        while not self._stop.wait(0.05):
            for version in self.server.simulated.cluster.read().versions():
                if version.look not in self.behaviour:
                    continue
                if version.name not in self._counters:
                    self._add(version)
                registry, requests, seconds = self._counters[version.name]
                for answer, duration in self.behaviour[version.look] if version.percent else []:
                    requests.labels("emoji", answer).inc()
                    seconds.labels("emoji").observe(duration)
                self.server.metrics[version.name] = generate_latest(registry).decode()

    def _add(self, version):
        registry = CollectorRegistry()
        requests = Counter("emoji_requests", "…", ["model", "status"], registry=registry)
        seconds = Histogram("emoji_request_seconds", "…", ["model"], buckets=(1, 2, 5), registry=registry)
        self._counters[version.name] = (registry, requests, seconds)
        self.server.metrics[version.name] = generate_latest(registry).decode()  # a ready pod answers
        labels = {"serving.knative.dev/revision": version.name, "app": f"isvc.{version.name}-predictor"}
        container = {"name": "kserve-container", "ports": [{"containerPort": 8080}]}
        self.server.simulated.store.create(
            {
                "kind": "Pod",
                "metadata": {"name": version.name, "labels": labels},
                "spec": {"containers": [container]},
                "status": {"conditions": [{"type": "Ready", "status": "True"}]},
            }
        )
