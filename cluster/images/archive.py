#!/usr/bin/env python3
"""Makes a container image of single files, without any container tool: the archive goes to stdout.

`ctr images import -` reads it. One layer; the same inputs give the same bytes. Knows nothing of Dockerfiles.
"""

import argparse
import hashlib
import io
import json
import os
import sys
import tarfile

PASSWD = b"""root:x:0:0:root:/root:/sbin/nologin
nobody:x:65534:65534:nobody:/tmp:/sbin/nologin
nonroot:x:65532:65532:nonroot:/tmp:/sbin/nologin
"""
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Layer:
    """An image's file system while it is written; folders appear as files need them."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self._folders = {""}

    def folder(self, path: str, mode: int = 0o755) -> None:
        """Adds a folder and those above it, once."""
        if path in self._folders:
            return
        self.folder(os.path.dirname(path))
        self._folders.add(path)
        info = tarfile.TarInfo(path)
        info.type, info.mode = tarfile.DIRTYPE, mode
        self._tar.addfile(info)

    def file(self, path: str, content: bytes, mode: int) -> None:
        """Adds a file of root's."""
        path = path.strip("/")
        self.folder(os.path.dirname(path))
        info = tarfile.TarInfo(path)
        info.mode, info.size = mode, len(content)
        self._tar.addfile(info, io.BytesIO(content))


def main() -> None:
    """Reads the command line and writes the archive."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="NAME:TAG")
    parser.add_argument("files", nargs="+", metavar="SOURCE=PATH", help="a file and its place in the image")
    parser.add_argument("--entrypoint", required=True)
    parser.add_argument("--user", default="65532:65532")
    arguments = parser.parse_intermixed_args()

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        layer = Layer(tar)
        layer.folder("tmp", 0o1777)
        layer.file("etc/passwd", PASSWD, 0o644)
        for pair in arguments.files:
            source, path = pair.split("=", 1)
            with open(source, "rb") as file:
                layer.file(path, file.read(), 0o755 if os.access(source, os.X_OK) else 0o644)
    content = buffer.getvalue()
    digest = hashlib.sha256(content).hexdigest()

    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": {
                "User": arguments.user,
                "WorkingDir": "/",
                "Entrypoint": [arguments.entrypoint],
                "Env": [f"PATH={SEARCH_PATH}"],
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    ).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    layer_name = f"{digest}/layer.tar"
    manifest = json.dumps(
        [{"Config": config_name, "RepoTags": [arguments.name], "Layers": [layer_name]}]
    ).encode()
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for name, data in ((config_name, config), ("manifest.json", manifest), (layer_name, content)):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


if __name__ == "__main__":
    main()
