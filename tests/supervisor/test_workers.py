"""Which CPUs the workers get when nobody said which."""

from tap2tap.supervisor.workers import own_cpus

CORES = {cpu: (0, cpu) for cpu in range(4)}


def test_each_worker_has_a_cpu_of_its_own_where_there_are_more_than_two() -> None:
    for count in (1, 2):
        assert own_cpus(set(range(count)), CORES) == (None, None)
    for count in (3, 4):
        out, into = own_cpus(set(range(count)), CORES)
        assert out is not None
        assert into is not None
        assert out != into
