"""The API server's rules for objects: resourceVersion, generation, uid, and what is a conflict. In memory."""

import copy
import threading

from rollout.errors import Conflict, NotFound


class ObjectStore:
    """Has the methods of `rollout.api.Api`. Selectors choose all: there is but one service."""

    namespace = "test"

    def __init__(self):
        self.objects = {}
        self.lock = threading.RLock()
        self._version = 0

    def get(self, kind, name):
        with self.lock:
            if (kind, name) not in self.objects:
                raise NotFound(f"no {kind} {name}")
            return copy.deepcopy(self.objects[kind, name])

    def list(self, kind, **selectors):
        with self.lock:
            return tuple(copy.deepcopy(thing) for (other, _), thing in self.objects.items() if other == kind)

    def create(self, body):
        with self.lock:
            metadata = {"namespace": self.namespace, **body["metadata"]}
            metadata.setdefault("name", f"{metadata.get('generateName', '')}{self._version}")
            if (body["kind"], metadata["name"]) in self.objects:
                raise Conflict(f"{body['kind']} {metadata['name']} is there already")
            created = copy.deepcopy(
                {**body, "metadata": {**metadata, "uid": f"uid-{self._version}", "generation": 1}}
            )
            self.objects[body["kind"], metadata["name"]] = created
            self._touch(created)
            return copy.deepcopy(created)

    def replace(self, body):
        with self.lock:
            stored = self._unchanged(body)
            if body.get("spec") != stored.get("spec"):
                stored["metadata"]["generation"] += 1
            stored["spec"] = copy.deepcopy(body["spec"])
            if "annotations" in body["metadata"]:
                stored["metadata"]["annotations"] = copy.deepcopy(body["metadata"]["annotations"])
            self._touch(stored)
            return copy.deepcopy(stored)

    def delete(self, body):
        with self.lock:
            self._unchanged(body)
            del self.objects[body["kind"], body["metadata"]["name"]]

    def set_status(self, kind, name, status):
        with self.lock:
            stored = self.objects[kind, name]
            if stored.get("status") != status:
                stored["status"] = copy.deepcopy(status)
                self._touch(stored)

    def _unchanged(self, body):
        kind, name = body["kind"], body["metadata"]["name"]
        if (kind, name) not in self.objects:
            raise NotFound(f"no {kind} {name}")
        stored = self.objects[kind, name]
        if body["metadata"]["resourceVersion"] != stored["metadata"]["resourceVersion"]:
            raise Conflict(f"{kind} {name} was changed")
        return stored

    def _touch(self, stored):
        self._version += 1
        stored["metadata"]["resourceVersion"] = str(self._version)
