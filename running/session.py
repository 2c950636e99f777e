"""A training session that starts from a named checkpoint and never saves what is not finite."""

from pathlib import Path
from typing import TYPE_CHECKING

import tensorflow.compat.v1 as tf

from running.checkpoints import Found
from running.hooks import FiniteHook, FiniteVariables, Scalars

if TYPE_CHECKING:
    from running.cluster import Cluster


def reason(error: Exception) -> str:
    """What an error says, in a line. TensorFlow's messages have the places in the graph around it."""
    message = str(getattr(error, "message", error))
    lines = (message.partition("\nNode:")[2].partition("\n")[2] or message).splitlines()
    return next((line.strip() for line in lines if line.strip()), type(error).__name__)


class Session(tf.train.SingularMonitoredSession):
    """A session that any error ends. MonitoredSession starts anew from its first weights after some of them."""

    def __exit__(self, kind, error, traceback):
        # By their own class, OutOfRangeError and StopIteration would be taken for the end of the data.
        return super().__exit__(kind and BaseException, error, traceback)


def open_session(
    folder: Path,
    start: Found,
    saver: tf.train.Saver,
    scalars: Scalars,
    hooks: list[tf.train.SessionRunHook],
    save_every_steps: int,
    cluster: "Cluster | None" = None,
) -> Session:
    """A session on the default graph; checkpoints go to `folder`.

    The caller names the checkpoint to start from. A session that searches for one itself starts silently at step 0 if
    it finds none. In each step the saver runs after `hooks`, so that all checks and table rows are done before the
    checkpoint is saved. The session's own saver would run before them.

    Args:
        folder: of the run's checkpoints.
        start: what was found in it; its variables are the graph's.
        saver: of all variables of the graph.
        scalars: of a step, checked first after each.
        hooks: what else rides along.
        save_every_steps: steps between checkpoints; the first and the last step are saved too.
        cluster: that this process has joined.
    """
    variables, losses = tf.global_variables(), FiniteHook(scalars)
    restore = None
    if start.path is not None:
        saver.recover_last_checkpoints(start.whole)  # else those of the earlier session would never be deleted

        def restore(scaffold, session):
            saver.restore(session, start.path)

    saving = tf.train.CheckpointSaverHook(
        str(folder),
        save_steps=save_every_steps,
        saver=saver,
        listeners=[FiniteVariables(variables, losses)],
        save_graph_def=False,
    )
    scaffold = tf.train.Scaffold(saver=saver, init_fn=restore)
    where = {} if cluster is None else {"master": cluster.target, "config": cluster.config}
    return Session([losses, *hooks, saving], scaffold, **where)
