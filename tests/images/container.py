"""The images under test as running containers: by docker or podman, with buildah by isolated.py."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
USER = "65532"
ISOLATED = Path(__file__).with_name("isolated.py")

Volumes = Mapping[str, tuple[Path, str]]
"""Path in the container → folder of this machine, "ro" or "rw"."""


def output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@dataclass(frozen=True)
class Image:
    """One built image."""

    builder: str
    name: str

    def exists(self) -> bool:
        command = [self.builder, "inspect", "--type", "image", self.name]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def config(self) -> dict[str, Any]:
        """The image's configuration as the OCI names it: User, Env, Entrypoint, Labels, …"""
        document = json.loads(output(self.builder, "inspect", "--type", "image", self.name))
        return document["OCIv1"]["config"] if self.builder == "buildah" else document[0]["Config"]

    def run(
        self, *arguments: str, volumes: Volumes | None = None, entrypoint: Sequence[str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs it to its end."""
        with self.started(arguments, volumes or {}, entrypoint) as process:
            printed, errors = process.communicate(timeout=600)
        return subprocess.CompletedProcess(process.args, process.returncode, printed, errors)

    @contextmanager
    def started(
        self,
        arguments: Sequence[str],
        volumes: Volumes,
        entrypoint: Sequence[str] | None = None,
        output: int | None = subprocess.PIPE,
    ) -> Iterator[subprocess.Popen[str]]:
        """The running container, on this machine's network; killed at the end if it still runs."""
        with self._command(arguments, volumes, entrypoint) as command:
            process = subprocess.Popen(command, stdout=output, stderr=output, text=True)
            with process:
                try:
                    yield process
                finally:
                    if process.poll() is None:
                        process.kill()

    @contextmanager
    def _command(
        self, arguments: Sequence[str], volumes: Volumes, entrypoint: Sequence[str] | None
    ) -> Iterator[list[str]]:
        if self.builder != "buildah":
            options = ["--rm", "--read-only", "--tmpfs=/tmp", "--network=host", "--cap-drop=all"]
            options += ["--security-opt=no-new-privileges"]
            options += [f"--volume={folder}:{path}:{mode}" for path, (folder, mode) in volumes.items()]
            if entrypoint:
                options.append(f"--entrypoint={entrypoint[0]}")
                arguments = [*entrypoint[1:], *arguments]
            yield [self.builder, "run", *options, self.name, *arguments]
            return
        config = self.config()
        container = subprocess.check_output(["buildah", "from", "--pull-never", self.name], text=True).strip()
        try:
            spec = {
                "root": output("buildah", "mount", container),
                "volumes": {path: [str(folder), mode] for path, (folder, mode) in volumes.items()},
                "environment": dict(entry.split("=", 1) for entry in config["Env"]),
                "folder": config.get("WorkingDir") or "/",
                "command": [*(entrypoint or config["Entrypoint"]), *(arguments or config.get("Cmd", ()))],
            }
            unshare = ["unshare", "--mount", "--propagation", "private"]
            yield [*unshare, sys.executable, str(ISOLATED), json.dumps(spec)]
        finally:
            output("buildah", "rm", container)
