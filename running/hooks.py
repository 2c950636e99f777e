"""What rides along in a training session: finite check, patience, table rows, progress, the stop.

Each `ScalarsHook` takes the same `scalars`, tensors by name, which are fetched with each training step; `step` among
them is the number of steps done before. They know nothing of what is trained.
"""

import math
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import tensorflow.compat.v1 as tf
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

from running.signals import StopSignals

Scalars = Mapping[str, tf.Tensor]


class NonFiniteError(Exception):
    """A loss or a variable is not finite. The message says where."""


class ScalarsHook(tf.train.SessionRunHook):
    """Fetches `scalars` with each step and hands their values to `after_step`."""

    def __init__(self, scalars: Scalars) -> None:
        self._scalars = dict(scalars)

    def before_run(self, run_context):
        return tf.train.SessionRunArgs(self._scalars)

    def after_run(self, run_context, run_values):
        values = run_values.results
        self.after_step(int(values["step"]) + 1, values)

    def after_step(self, step: int, values: Mapping[str, float]) -> None:
        """Called after each training step, `step` of them done so far, with the values of `scalars`."""
        raise NotImplementedError


class FiniteHook(ScalarsHook):
    """Raises NonFiniteError after the first step with a scalar that is not finite, before anything is saved.

    An exception ends a MonitoredSession without saving, unlike a requested stop. So the newest checkpoint stays finite.

    Attributes:
        summary: the scalars of the last step, in words.
    """

    summary = "no step taken yet"

    def after_step(self, step, values):
        self.summary = ", ".join(f"{name} {value:.6g}" for name, value in values.items() if name != "step")
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        if bad:
            raise NonFiniteError(f"step {step}: {' and '.join(bad)} not finite ({self.summary})")


class FiniteVariables(tf.train.CheckpointSaverListener):
    """Raises NonFiniteError before a save if any of the float `variables` holds a NaN or an infinity.

    Make it before the graph is finalized. The error message takes its text about the last step from `losses`.
    """

    def __init__(self, variables: list[tf.Variable], losses: FiniteHook) -> None:
        floats = [variable for variable in variables if variable.dtype.is_floating]
        self._losses = losses
        self._names = [variable.op.name for variable in floats]
        self._all_finite = tf.stack([tf.reduce_all(tf.math.is_finite(variable)) for variable in floats])

    def before_save(self, session, global_step_value):
        finite = session.run(self._all_finite)
        bad = [name for name, is_finite in zip(self._names, finite, strict=True) if not is_finite]
        if bad:
            raise NonFiniteError(
                f"step {global_step_value}: variables not finite: {', '.join(bad[:5])} ({self._losses.summary})"
            )


class PatienceHook(ScalarsHook):
    """Warns once, when something has been wrong for `patience` steps on end.

    Args:
        scalars: fetched with each step.
        wrong: says from their values what is wrong, in words, or None.
        patience: steps on end.
        warn: called with the message.
    """

    def __init__(
        self,
        scalars: Scalars,
        wrong: Callable[[Mapping[str, float]], str | None],
        patience: int,
        warn: Callable[[str], None] = print,
    ) -> None:
        super().__init__(scalars)
        self._wrong, self._patience, self._warn = wrong, patience, warn
        self._steps, self._warned = 0, False

    def after_step(self, step, values):
        problem = self._wrong(values)
        self._steps = self._steps + 1 if problem else 0
        if self._steps == self._patience and not self._warned:
            self._warned = True
            self._warn(f"warning: step {step}: for {self._patience} steps on end, {problem}")


class TableHook(ScalarsHook):
    """Hands a row, `step` and the values, to `append` every `every_steps` and at `last_step`."""

    def __init__(
        self, scalars: Scalars, every_steps: int, last_step: int, append: Callable[[dict[str, object]], None]
    ) -> None:
        super().__init__(scalars)
        self._every_steps, self._last_step, self._append = every_steps, last_step, append

    def after_step(self, step, values):
        if step % self._every_steps == 0 or step == self._last_step:
            # Nine digits give back every float32 exactly.
            self._append({"step": step} | {name: f"{value:.9g}" for name, value in values.items() if name != "step"})


class ProgressHook(ScalarsHook):
    """A progress bar on a terminal; elsewhere a line every `every_steps`. On both an estimate after some steps.

    To be entered as a context around the session, since a session that fails does not call its hooks' `end`.

    Args:
        scalars: fetched with each step.
        shown: those to show, by a short label.
        first_step, last_step: steps done when the session begins, and when it ends.
        every_steps: between lines.

    Attributes:
        step: steps done so far.
        steps, seconds: how many steps of this session were timed, and their total time without what is between them.
            The first step is left out, because it also compiles and allocates.
    """

    def __init__(
        self, scalars: Scalars, shown: Mapping[str, str], first_step: int, last_step: int, every_steps: int
    ) -> None:
        super().__init__(scalars)
        self._shown, self._last_step, self._every_steps = shown, last_step, every_steps
        self._first_step = first_step
        self.step, self.steps, self.seconds = first_step, 0, 0.0
        self._bar = Progress(
            BarColumn(10), MofNCompleteColumn(), TimeRemainingColumn(),
            TextColumn("{task.description}", table_column=Column(no_wrap=True, ratio=1)),  # the first to be cut
            expand=True, disable=not sys.stdout.isatty(),
        )  # fmt: skip
        self._task = self._bar.add_task("", total=last_step, completed=first_step)

    def __enter__(self):
        self._bar.start()
        return self

    def __exit__(self, *exception):
        self._bar.stop()

    def before_run(self, run_context):
        self._began = time.perf_counter()
        return super().before_run(run_context)

    def after_step(self, step, values):
        first = self.step == self._first_step
        self.step = step
        if not first:
            self.steps, self.seconds = self.steps + 1, self.seconds + time.perf_counter() - self._began
        left = self._last_step - step
        if self.steps == 20 and left:
            pace = self.seconds / self.steps
            print(
                f"about {left * pace / 60:.1f} minutes for {left:,} more steps ({1000 * pace:.0f} ms a step), "
                "evaluation aside",
                flush=True,
            )
        texts = [f"{label} {values[name]:.4g}" for label, name in self._shown.items()]
        if not self._bar.disable:
            pace = f"{self.steps / self.seconds:.1f} steps/s" if self.steps else ""
            description = " ".join([pace, *texts])
            self._bar.update(self._task, completed=step, description=description)
        elif step % self._every_steps == 0 or not left:
            print(f"step {step}/{self._last_step}", *texts, flush=True)


class StopHook(tf.train.SessionRunHook):
    """Asks the session to stop, which makes it save, once a signal has been received."""

    def __init__(self, signals: StopSignals) -> None:
        self._signals = signals

    def after_run(self, run_context, run_values):
        if self._signals.received is not None:
            run_context.request_stop()


class EventsHook(tf.train.SessionRunHook):
    """Writes the graph, and its summaries every `every_steps` and at `last_step`, to an event file for TensorBoard.

    Make it before the graph is finalized and after its summaries.
    """

    def __init__(self, folder: Path, first_step: int, every_steps: int, last_step: int) -> None:
        self._folder, self._step, self._every_steps, self._last_step = folder, first_step, every_steps, last_step
        self._summaries = tf.summary.merge_all()

    def after_create_session(self, session, coord):
        self._writer = tf.summary.FileWriterCache.get(str(self._folder))  # which writes the default graph first
        # TensorBoard then leaves out what an earlier session wrote of the steps that are taken again.
        self._writer.add_session_log(tf.SessionLog(status=tf.SessionLog.START), self._step)

    def before_run(self, run_context):
        self._step += 1
        due = self._step % self._every_steps == 0 or self._step == self._last_step
        return tf.train.SessionRunArgs(self._summaries if due else None)

    def after_run(self, run_context, run_values):
        if run_values.results is not None:
            self._writer.add_summary(run_values.results, self._step)

    def end(self, session):
        self._writer.flush()


def write_events(folder: Path, step: int, values: Mapping[str, float]) -> None:
    """Adds `values` by their tags to the event file of this process in `folder`."""
    tagged = [tf.Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
    writer = tf.summary.FileWriterCache.get(str(folder))
    writer.add_summary(tf.Summary(value=tagged), step)
    writer.flush()
