"""Runs a program in an image's root file system as a pod would: read-only but for /tmp, as uid 65532.

For buildah, which has no `--read-only`: `unshare --mount --propagation private python isolated.py SPEC`. It
becomes the program, so signals reach it, and the mounts end with it. SPEC is JSON: root, volumes (path →
[folder, "ro" or "rw"]), environment, folder, command.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

USER = 65532


def mount(*arguments: str) -> None:
    """In this process's own mount namespace."""
    subprocess.run(["mount", *arguments], check=True)


def main(spec: dict) -> None:
    root = spec["root"]
    for path in ("/tmp", "/proc", "/dev", *spec["volumes"]):
        Path(root + path).mkdir(parents=True, exist_ok=True)
    mount("--bind", root, root)
    mount("-t", "tmpfs", "-o", "mode=1777", "tmpfs", root + "/tmp")
    mount("-t", "proc", "proc", root + "/proc")
    mount("--rbind", "/dev", root + "/dev")
    for path, (folder, mode) in spec["volumes"].items():
        mount("--bind", folder, root + path)
        mount("-o", f"remount,bind,{mode}", root + path)
    mount("-o", "remount,bind,ro", root)
    os.chroot(root)
    os.chdir(spec["folder"])
    os.setgroups([])
    os.setgid(USER)
    os.setuid(USER)
    os.execvpe(spec["command"][0], spec["command"], spec["environment"])


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
