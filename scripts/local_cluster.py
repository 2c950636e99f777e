"""Trains with a chief and workers on this machine, to try a cluster out.

    python scripts/local_cluster.py --workers 1 --config configs/digits.yaml

Each is a process, and all write to one terminal. All options but --workers are
those of train_mnist.py. One Ctrl-C ends all processes, with a checkpoint.
TensorFlow's servers listen on all network interfaces, without a password:
docs/scale.md says how to close them off.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from running.command_line import typed  # noqa: E402
from running.signals import PARENT, take_over  # noqa: E402
from running.streams import outlive_readers  # noqa: E402


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens at."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def start(task: tuple[str, int], cluster: dict[str, list[str]], arguments: list[str]) -> subprocess.Popen:
    """Starts the process of a task. Ctrl-C reaches it through this program alone, once."""
    described = json.dumps({"cluster": cluster, "task": {"type": task[0], "index": task[1]}})
    return subprocess.Popen(
        [sys.executable, str(ROOT / "train_mnist.py"), *arguments],
        env=os.environ | {"TF_CONFIG": described, PARENT: str(os.getpid())},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns 0, or the exit code of the first process that failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=1, help="processes beside the chief")
    options, rest = parser.parse_known_args(arguments)
    if options.workers < 1:
        parser.error(f"--workers: expected a whole number above 0, got {options.workers}")
    chief, *workers = (f"127.0.0.1:{port}" for port in free_ports(1 + options.workers))
    cluster = {"chief": [chief], "worker": workers}
    tasks = [("chief", 0), *(("worker", index) for index in range(options.workers))]
    processes, codes, run = {}, [], None

    def end(signum: int, frame: object = None) -> None:
        for process in processes.values():
            process.send_signal(signum)

    def tell(task: tuple[str, int], process: subprocess.Popen) -> None:
        nonlocal run
        for line in process.stdout:
            print(f"{task[0]} {task[1]} | {line}", end="", flush=True)
            if task[0] == "chief" and line.startswith("run: "):
                run = line.removeprefix("run: ").rstrip("\n")
        if process.wait() != 0:
            codes.append(process.returncode)
            end(signal.SIGUSR1)  # the others would wait for it; no second signal to one that is stopping already

    take_over(end)
    for task in tasks:
        processes[task] = start(task, cluster, rest)
    threads = [threading.Thread(target=tell, args=pair) for pair in processes.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if codes and run:
        print(f"go on with: python scripts/local_cluster.py --workers {options.workers} --resume {typed(run)}")
    return next((code if code > 0 else 128 - code for code in codes), 0)


if __name__ == "__main__":
    outlive_readers()
    sys.exit(main())
