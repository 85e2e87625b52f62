"""The choice of CPUs: two physical cores where there are any, within the mask, not the first CPU where possible."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap2tap.cpus import Core, allowed, choose, topology

PLAIN = {0: (0, 0), 1: (0, 1), 2: (0, 2), 3: (0, 3)}  # four cores
THREADS = {0: (0, 0), 1: (0, 1), 2: (0, 0), 3: (0, 1)}  # two cores of two threads: 0 and 2 share one
PACKAGES = {0: (0, 0), 1: (0, 1), 2: (1, 0), 3: (1, 1)}  # two packages of two cores

masks = st.frozensets(st.integers(0, 15), min_size=1)
machines = st.dictionaries(st.integers(0, 15), st.tuples(st.integers(0, 1), st.integers(0, 3)))


def fake(root: Path, cores: dict[int, Core]) -> Path:
    """Lay out a machine as sysfs does."""
    for cpu, (package, core) in cores.items():
        folder = root / f"cpu{cpu}/topology"
        folder.mkdir(parents=True)
        (folder / "physical_package_id").write_text(f"{package}\n")
        (folder / "core_id").write_text(f"{core}\n")
    for other in ("cpufreq", "cpuidle", "power"):
        (root / other).mkdir()
    return root


def test_a_choice_of_cores_leaves_out_the_first_cpu() -> None:
    assert choose({0, 1, 2, 3}, PLAIN) == (1, 2)


def test_two_cpus_are_both_used() -> None:
    assert set(choose({0, 1}, PLAIN)) == {0, 1}


def test_the_only_cpu_is_used_twice() -> None:
    assert choose({2}, PLAIN) == (2, 2)


def test_threads_of_one_core_are_not_taken_for_two_cores() -> None:
    # Only with CPU 0 or 2 do both cores serve, and 2 is not the first CPU.
    assert set(choose({0, 1, 2, 3}, THREADS)) in ({1, 2}, {2, 3})


def test_two_cores_matter_more_than_the_first_cpu() -> None:
    assert set(choose({0, 1, 3}, THREADS)) in ({0, 1}, {0, 3})


def test_threads_of_one_core_are_better_than_one_cpu() -> None:
    assert set(choose({1, 3}, THREADS)) == {1, 3}


def test_cores_that_share_a_cache_come_first() -> None:
    assert set(choose({0, 1, 2, 3}, PACKAGES)) == {2, 3}


def test_the_mask_is_kept() -> None:
    assert set(choose({1, 3}, PLAIN)) == {1, 3}


def test_no_cpu_at_all_is_an_error() -> None:
    with pytest.raises(ValueError, match="no CPU"):
        choose(set(), PLAIN)


@given(masks, machines)
def test_whatever_the_machine_the_choice_is_allowed_and_no_worse_than_any_other(
    mask: frozenset[int], cores: dict[int, Core]
) -> None:
    out, into = choose(mask, cores)
    where = {cpu: cores.get(cpu, (-1, cpu)) for cpu in mask}
    assert {out, into} <= mask
    assert (out != into) == (len(mask) > 1)
    assert (where[out] != where[into]) == (len(set(where.values())) > 1)
    if len({where[cpu] for cpu in mask - {min(mask)}}) > 1:
        assert min(mask) not in (out, into)


@given(masks, machines)
def test_the_same_machine_always_gets_the_same_choice(mask: frozenset[int], cores: dict[int, Core]) -> None:
    assert choose(mask, cores) == choose(set(mask), dict(reversed(cores.items())))


@pytest.mark.parametrize("cores", [PLAIN, THREADS, PACKAGES])
def test_the_topology_is_read_from_sysfs(tmp_path: Path, cores: dict[int, Core]) -> None:
    assert topology(fake(tmp_path, cores)) == cores


def test_a_cpu_that_sysfs_does_not_describe_is_a_core_of_its_own(tmp_path: Path) -> None:
    fake(tmp_path, {0: (0, 0)})
    (tmp_path / "cpu1").mkdir()  # as an offline one
    (tmp_path / "cpu2/topology").mkdir(parents=True)
    (tmp_path / "cpu2/topology/core_id").write_text("rubbish\n")
    (tmp_path / "cpu2/topology/physical_package_id").write_text("0\n")
    cores = topology(tmp_path)
    assert cores[0] == (0, 0)
    assert len(set(cores.values())) == 3


def test_without_sysfs_any_two_cpus_do(tmp_path: Path) -> None:
    assert topology(tmp_path / "nothing") == {}
    assert choose({0, 1, 2}, {}) == (1, 2)


def test_this_machine_has_a_choice() -> None:
    assert set(choose(allowed(), topology())) <= allowed()
