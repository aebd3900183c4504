"""How many CPUs this process may use at once. It doesn't know what for."""

from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def cpu_quota(cgroup: Path = CGROUP) -> int | None:
    """Whole CPUs of the container's limit, 1 at least; None: there is no limit.

    Torch starts a thread for each core of the node. Where a limit lets fewer of them run, the others wait for
    them at every operation while the kernel takes their time away. A fraction of a CPU is left to the server.
    Reads cgroup v2's cpu.max, or v1's cpu.cfs_quota_us.
    """
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if not quota.isdecimal() or not period.isdecimal() or int(period) == 0:  # "max" in v2, -1 in v1
        return None
    return max(1, int(quota) // int(period))
