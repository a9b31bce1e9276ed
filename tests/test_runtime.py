from __future__ import annotations

from pathlib import Path

import pytest

from bahumukha import runtime
from bahumukha.errors import UsageError


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BAHUMUKHA_THREADS", raising=False)
    monkeypatch.delenv("BAHUMUKHA_HOME", raising=False)


def _machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def _siblings(groups: list[str]) -> dict[str, str]:
    """Logical CPU i shares its core with the CPUs of `groups[i]`."""
    place = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    return {place.format(cpu): siblings + "\n" for cpu, siblings in enumerate(groups)}


def _on_linux(monkeypatch: pytest.MonkeyPatch, root: Path, cpus: set[int]) -> int:
    monkeypatch.setattr(runtime.sys, "platform", "linux")
    monkeypatch.setattr(runtime.os, "sched_getaffinity", lambda pid: cpus, raising=False)
    monkeypatch.setattr(runtime, "_ROOT", root)
    return runtime.physical_cores()


def test_this_machine_has_cores() -> None:
    cores = runtime.physical_cores()
    assert 1 <= cores <= (runtime.os.cpu_count() or 1)
    assert runtime.thread_count() == cores


def test_threads_of_one_core_count_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = _machine(tmp_path, _siblings(["0,4", "1,5", "2,6", "3,7"] * 2))
    assert _on_linux(monkeypatch, root, set(range(8))) == 4
    assert _on_linux(monkeypatch, root, {0, 4, 1}) == 2
    assert _on_linux(monkeypatch, root, {7}) == 1


def test_unknown_topology_counts_every_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _on_linux(monkeypatch, tmp_path, {0, 1, 2}) == 3


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 2),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "10000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
        (
            {
                "proc/self/cgroup": "0::/outer/inner\n",
                "sys/fs/cgroup/outer/cpu.max": "300000 100000\n",
                "sys/fs/cgroup/outer/inner/cpu.max": "max 100000\n",
            },
            3,
        ),
        (
            {
                "proc/self/cgroup": "9:name=systemd:/\n4:cpu,cpuacct:/docker/abc\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "400000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            4,
        ),
        (
            {
                "proc/self/cgroup": "4:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            8,
        ),
    ],
)
def test_container_limits_hold(
    files: dict[str, str], cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = _machine(tmp_path, files | _siblings([str(cpu) for cpu in range(8)]))
    assert _on_linux(monkeypatch, root, set(range(8))) == cores


@pytest.mark.parametrize(
    ("machine", "logical", "cores"),
    [
        ("x86_64", 8, 4),
        ("AMD64", 2, 1),
        ("arm64", 8, 8),
        ("AMD64", 1, 1),
        ("x86_64", 3, 3),
        ("arm64", None, 1),
    ],
)
def test_elsewhere_x86_is_taken_to_run_two_threads_a_core(
    machine: str, logical: int | None, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime.sys, "platform", "darwin")
    monkeypatch.setattr(runtime.platform, "machine", lambda: machine)
    monkeypatch.setattr(runtime.os, "cpu_count", lambda: logical)
    assert runtime.physical_cores() == cores


def test_thread_count_prefers_the_argument_then_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAHUMUKHA_THREADS", " 3 ")
    assert runtime.thread_count() == 3
    assert runtime.thread_count(5) == 5
    monkeypatch.setenv("BAHUMUKHA_THREADS", "")
    assert runtime.thread_count() == runtime.physical_cores()


@pytest.mark.parametrize("value", ["0", "-2", "many", "1.5", "²"])
def test_wrong_thread_counts_are_named(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAHUMUKHA_THREADS", value)
    with pytest.raises(UsageError, match="BAHUMUKHA_THREADS"):
        runtime.thread_count()
    with pytest.raises(UsageError, match="threads: 0"):
        runtime.thread_count(0)


def test_data_home_is_the_platforms_or_the_users_and_is_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert runtime.data_home().is_absolute()
    assert "bahumukha" in str(runtime.data_home())
    monkeypatch.setenv("BAHUMUKHA_HOME", str(tmp_path / "elsewhere"))
    assert runtime.data_home() == tmp_path / "elsewhere"
    assert not (tmp_path / "elsewhere").exists()
    monkeypatch.setenv("BAHUMUKHA_HOME", "~/pictures")
    assert runtime.data_home() == Path.home() / "pictures"
