"""The signals that ask to end, sent to processes of their own, inside and outside `deferred`."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest

from running.signals import ECHO

BOTH = pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM], ids=lambda signum: signum.name)
BATCH = [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU]
ALL = pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, *BATCH], ids=lambda signum: signum.name)
START = """
import sys, time
from running.signals import Stopped, StopSignals

def say(word):
    print(word, flush=True)

def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)

signals = StopSignals()
"""


@pytest.fixture
def start(pytestconfig):
    """Runs code after START, line by line of its output."""
    with contextlib.ExitStack() as stack:

        def run(code: str) -> subprocess.Popen:
            process = subprocess.Popen(
                [sys.executable, "-c", START + code],
                cwd=pytestconfig.rootpath, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield run


def ending(process) -> tuple[list[str], str, int]:
    """What it still says, what it complains of, its exit code."""
    output, errors = process.communicate(timeout=30)
    return output.split("\n")[:-1], errors, process.returncode


@ALL
def test_outside_deferred_it_is_raised_at_once(start, signum):
    process = start("""
try:
    try:
        say("ready")
        wait_for(lambda: False)
    except Exception:
        say("swallowed")
except Stopped as stopped:
    say(f"stopped by {stopped}")
    say(signals.received)
    sys.exit(128 + stopped.signum)
""")
    assert process.stdout.readline() == "ready\n"
    os.kill(process.pid, signum)
    assert ending(process) == ([f"stopped by {signum.name}", f"{int(signum)}"], "", 128 + signum)


DEFERRED = """
try:
    with signals.deferred():
        say("ready")
        wait_for(lambda: signals.received is not None)
        say(f"received {signals.received}")
        say("saved")
    say("behind the block")
except Stopped as stopped:
    say(f"stopped by {stopped}")
    sys.exit(128 + stopped.signum)
"""


@ALL
def test_inside_deferred_it_is_noted_and_raised_at_the_end(start, signum):
    process = start(DEFERRED)
    assert process.stdout.readline() == "ready\n"
    os.kill(process.pid, signum)
    assert ending(process) == ([f"received {signum.value}", "saved", f"stopped by {signum.name}"], "", 128 + signum)


@BOTH
def test_a_second_signal_ends_the_process_at_once(start, signum):
    process = start("""
with signals.deferred():
    say("ready")
    try:
        wait_for(lambda: signals.received is not None)
        say("received")
        wait_for(lambda: False)
    finally:
        say("cleaned up")
""")
    assert process.stdout.readline() == "ready\n"
    os.kill(process.pid, signal.SIGTERM)
    assert process.stdout.readline() == "received\n"
    time.sleep(ECHO + 0.1)
    os.kill(process.pid, signum)
    assert ending(process) == ([], "", 128 + signum), "the second one's number, and nothing cleaned up"


@BOTH
def test_the_same_signal_from_two_senders_is_one(start, signum):
    """A batch system signals a training and `reproduce.py`, which hands the signal on."""
    process = start("""
try:
    with signals.deferred():
        say("ready")
        wait_for(lambda: False, 2)
        say("saved")
except Stopped as stopped:
    say(f"stopped by {stopped}")
""")
    assert process.stdout.readline() == "ready\n"
    for _ in range(2):
        os.kill(process.pid, signum)
        time.sleep(0.05)
    assert ending(process) == (["saved", f"stopped by {signum.name}"], "", 0)


def test_without_a_signal_the_block_ends_as_usual(start):
    process = start("""
with signals.deferred():
    say("inside")
say(signals.received)
""")
    assert ending(process) == (["inside", "None"], "", 0)


@BOTH
def test_after_the_block_it_is_raised_at_once_again(start, signum):
    process = start("""
with signals.deferred():
    pass
try:
    say("ready")
    wait_for(lambda: False)
except Stopped as stopped:
    say(f"stopped by {stopped}")
""")
    assert process.stdout.readline() == "ready\n"
    os.kill(process.pid, signum)
    assert ending(process) == ([f"stopped by {signum.name}"], "", 0)


def test_an_error_inside_is_not_hidden_by_the_signal(start):
    process = start("""
try:
    with signals.deferred():
        say("ready")
        wait_for(lambda: signals.received is not None)
        raise ValueError("diverged")
except ValueError as error:
    say(error)
try:
    with signals.deferred():
        raise ValueError("again")
except ValueError as error:
    say(error)
""")
    assert process.stdout.readline() == "ready\n"
    os.kill(process.pid, signal.SIGINT)
    assert ending(process) == (["diverged", "again"], "", 0)


def test_uncaught_it_is_a_failure_and_not_an_exit_of_zero(start):
    process = start("""
say("ready")
wait_for(lambda: False)
""")
    assert process.stdout.readline() == "ready\n"
    os.kill(process.pid, signal.SIGTERM)
    output, errors, code = ending(process)
    assert output == []
    assert errors.rstrip().endswith("Stopped: SIGTERM")
    assert code == 1


@pytest.mark.parametrize("signum", BATCH, ids=lambda signum: signum.name)
def test_one_that_comes_repeatedly_does_not_cut_the_checkpoint_short(start, signum):
    """A lost terminal sends SIGHUP twice, and the kernel SIGXCPU each second."""
    process = start("""
import time
try:
    with signals.deferred():
        say("ready")
        time.sleep(1)
        say("saved")
except Stopped as stopped:
    time.sleep(0.5)
    sys.exit(128 + stopped.signum)
""")
    assert process.stdout.readline() == "ready\n"
    for _ in range(3):
        os.kill(process.pid, signum)
        time.sleep(0.1)
    assert process.stdout.readline() == "saved\n"
    os.kill(process.pid, signum)
    assert ending(process) == ([], "", 128 + signum)


@pytest.mark.parametrize("taker", ["StopSignals()", "Child()"])
def test_sighup_stays_ignored_under_nohup(start, taker):
    process = start(f"""
import signal
from running.signals import Child
signal.signal(signal.SIGHUP, signal.SIG_IGN)
{taker}
say(signal.getsignal(signal.SIGHUP) == signal.SIG_IGN)
""")
    assert ending(process) == (["True"], "", 0)


@ALL
def test_between_two_children_it_is_raised_at_once(start, signum):
    process = start("""
from running.signals import Child
try:
    child = Child()
    child.run(["true"])
    say("ready")
    wait_for(lambda: False)
except Stopped as stopped:
    say(f"stopped by {stopped}")
""")
    assert process.stdout.readline() == "ready\n"
    os.kill(process.pid, signum)
    assert ending(process) == ([f"stopped by {signum.name}"], "", 0)


@ALL
def test_a_child_is_handed_each(start, signum):
    process = start("""
from running.signals import Child, Stopped
code = "import time; from running.signals import *; StopSignals(); print('ready', flush=True); time.sleep(60)"
try:
    Child().run([sys.executable, "-c", code])
except Stopped as stopped:
    say(int(stopped.signum))
""")
    assert process.stdout.readline() == "ready\n"
    os.kill(process.pid, signum)
    output, errors, code = ending(process)
    assert (output, code) == ([str(int(signum))], 0)
    assert errors.rstrip().endswith(f"Stopped: {signum.name}")
