"""Commands side by side, by an engine that joblib knows: processes of this machine, or a cluster of Dask or Ray."""

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import joblib


class EngineError(Exception):
    """The engine is not installed, or can't be reached. The message says which."""


class LostWorkerError(EngineError):
    """The engine lost a worker. Trying again may help."""


@contextmanager
def _engine(name: str, jobs: int, address: str | None) -> Iterator[None]:
    """Makes `name` joblib's engine within the block: one of its own with `jobs` workers, or that at `address`."""
    if name == "dask":
        from dask.distributed import Client

        client = Client(address) if address else Client(n_workers=jobs, threads_per_worker=1, dashboard_address=None)
        with client, joblib.parallel_config(backend="dask", wait_for_workers_timeout=60):
            yield
    elif name == "ray":
        import ray
        from ray.util.joblib import register_ray

        register_ray()
        ray.init(address=address, num_cpus=None if address else jobs, include_dashboard=False, log_to_driver=False)
        try:
            with joblib.parallel_config(backend="ray"):
                yield
        finally:
            ray.shutdown()
    else:
        yield  # joblib's own


def run_all(
    commands: Sequence[Sequence[str]], env: Mapping[str, str], *, engine: str, jobs: int, address: str | None = None
) -> list[int]:
    """Runs every command, in the environment `env`, and tells on the terminal how many are done.

    Args:
        commands: each the words of one. Their output is dropped, but for errors.
        env: of each.
        engine: loky, dask or ray.
        jobs: how many run at once.
        address: of a cluster of Dask or Ray that is there. Its machines need this folder and this Python.

    Returns:
        The exit codes.

    Raises:
        EngineError: if the engine can't be used.
        LostWorkerError: if a worker died; other commands may have been ended, too.
    """
    call = joblib.delayed(subprocess.call)  # of the standard library: nothing of ours has to be sent
    calls = [call(command, env=dict(env), stdout=subprocess.DEVNULL, start_new_session=True) for command in commands]
    try:
        with _engine(engine, jobs, address):
            try:
                # Dispatched so many at a time, because Dask goes by its own number of threads.
                return joblib.Parallel(n_jobs=jobs, batch_size=1, pre_dispatch=jobs, verbose=10)(calls)
            except Exception as error:  # each engine has its own
                raise LostWorkerError(f"{engine}: {type(error).__name__}: {_first_line(error)}") from error
    except ImportError as error:
        raise EngineError(f"{engine} is not installed ({error}): pip install -r requirements-scale.txt") from error
    except (OSError, RuntimeError, ValueError) as error:
        place = f" at {address}" if address else ""
        raise EngineError(f"{engine} can't be reached{place}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
