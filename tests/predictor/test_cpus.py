import pytest

from predictor.cpus import cpu_quota


@pytest.mark.parametrize(
    ("cpu_max", "cpus"),
    [
        ("200000 100000\n", 2),
        ("350000 100000\n", 3),
        ("50000 100000\n", 1),
        ("max 100000\n", None),
        ("strange\n", None),
        ("100000 0\n", None),
    ],
)
def test_the_limit_of_a_cgroup_v2(tmp_path, cpu_max, cpus):
    (tmp_path / "cpu.max").write_text(cpu_max)
    assert cpu_quota(tmp_path) == cpus


@pytest.mark.parametrize(("quota", "cpus"), [("400000\n", 4), ("50000\n", 1), ("-1\n", None)])
def test_the_limit_of_a_cgroup_v1(tmp_path, quota, cpus):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert cpu_quota(tmp_path) == cpus


def test_no_limit_where_there_are_no_cgroups(tmp_path):
    assert cpu_quota(tmp_path) is None
