"""A simulated cluster behind HTTP, as the API server speaks it, with a kubeconfig.

The controllers run in a thread; pods answer `/metrics` through the proxy.
"""

import json
import re
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from rollout.api import COLLECTIONS
from rollout.errors import Conflict, NotFound

PATHS = {
    kind: re.compile("/" + path.format("[^/]+") + r"(?:/([^/]+)(/.*)?)?")
    for kind, path in COLLECTIONS.items()
}


class ApiServer:
    """Serves `simulated` inside `with`; `metrics` are the pages of pods by name."""

    def __init__(self, simulated):
        self.simulated, self.controllers = simulated, simulated.controllers
        self.metrics = {}
        self.model = {}
        """What the metadata of the model `emoji` say beside its name, in each of these pods."""
        self.refuse = set()
        """(method, kind) pairs that this user may not do; Pod/proxy is a kind."""
        self.down = False
        """Whether every call fails."""
        self.hung = set()
        """Names of pods that answer no more."""
        self.read = Counter()
        """How often the metrics of pods were read, by name."""
        self.others = 0
        """So many writes are preceded by another's to the same object."""
        self._stop = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._threads = [
            threading.Thread(target=self._server.serve_forever, args=(0.05,)),
            threading.Thread(target=self._run_controllers),
        ]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._server.shutdown()
        for thread in self._threads:
            thread.join()
        self._server.server_close()

    def kubeconfig(self):
        port = self._server.server_port
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "test",
                "contexts": [{"name": "test", "context": {"cluster": "c", "user": "u", "namespace": "test"}}],
                "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
                "users": [{"name": "u", "user": {"token": "secret"}}],
            }
        )

    def leases(self):
        return self.simulated.store.list("Lease")

    def _run_controllers(self):
        while not self._stop.is_set():
            for controller in self.controllers:
                self.simulated.run(controller)
            time.sleep(0.02)

    def answer(self, method, path, body):
        """A status, and JSON or text."""
        if self.down:
            return 503, {"message": "the API server is down"}
        for kind, pattern in PATHS.items():
            found = pattern.fullmatch(unquote(urlsplit(path).path))
            if not found:
                continue
            name, rest = found[1], found[2]
            if (method, f"{kind}/proxy" if rest else kind) in self.refuse:
                return 403, {"message": f"user cannot {method} {kind}"}
            if rest:
                pod = name.removesuffix(":8080")
                if pod in self.hung or pod not in self.metrics:
                    return 503, {"message": "no answer from the pod"}
                if rest == "/proxy/v2/models/emoji":
                    return 200, {"name": "emoji", **self.model}
                self.read[pod] += 1
                return 200, self.metrics[pod]
            try:
                return 200, self._act(method, kind, name, body)
            except NotFound as error:
                return 404, {"message": str(error)}
            except Conflict as error:
                return 409, {"message": str(error)}
        return 404, {"message": f"no such path: {path}"}

    def _act(self, method, kind, name, body):
        store = self.simulated.store
        if method == "PUT" and kind != "Lease" and self.others:
            self.others -= 1
            found = store.get(kind, name)
            store.replace({**found, "spec": {**found["spec"], "others": found["spec"].get("others", 0) + 1}})
        if method == "GET":
            return store.get(kind, name) if name else {"items": store.list(kind)}
        if method == "DELETE":
            store.delete({"kind": kind, "metadata": {"name": name, **body["preconditions"]}})
            return {}
        return (
            store.create({**body, "kind": kind})
            if method == "POST"
            else store.replace({**body, "kind": kind})
        )

    def _handler(server):  # noqa: N805 - the handler's own self is the request
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, reply = server.answer(self.command, self.path, json.loads(body) if body else None)
                data = reply.encode() if isinstance(reply, str) else json.dumps(reply).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815

            def log_message(self, *_):
                pass

        return Handler
