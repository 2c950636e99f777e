"""Checksums of three steps of each preset on scikit-learn's digits: `python tests/make_bits.py REPOSITORY > bits.json`.

They were made from the repository at commit 4c31e84, so that a later version can be held to its bits.
"""

import dataclasses
import hashlib
import json
import os
import sys
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
STEPS = 3


def processor() -> list[str]:
    """What the order of additions may depend on."""
    fields = (line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines())
    known = {name.strip(): text.strip() for name, _, text in fields}
    return [*(known.get(name, "") for name in ("model name", "model", "stepping")), str(os.cpu_count())]


def checksum(arrays: dict) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode() + arrays[name].tobytes())
    return digest.hexdigest()[:16]


def bits_of(build_graph, config, data, split) -> dict[str, object]:
    """The checksums of all variables before and after the steps, and the loss of the last one.

    Args:
        build_graph: makes the graph of `config`.
        config: of the preset, its precision resolved.
        data: the digits.
        split: indices of the training images.
    """
    import tensorflow.compat.v1 as tf

    try:
        from splits import batches, shifted
    except ImportError:  # as at that commit
        from mnist_data import batches, shifted

    order = batches(len(split), config.batch_size, config.seed)
    with tf.Graph().as_default(), tf.Session() as session:
        graph = build_graph(config)
        session.run(tf.global_variables_initializer())

        def state():
            return {variable.op.name: session.run(variable) for variable in tf.global_variables()}

        before = checksum(state())
        for step in range(STEPS):
            index = split[next(order)]
            images = shifted(data.train.images[index], config.augment_shift, config.seed, step)
            feed = {graph.images: images, graph.labels: data.train.labels[index]}
            update = graph[graph._fields.index("train_op") + 1]  # called otherwise in earlier versions
            *_, loss = session.run([graph.train_op, update, graph.scalars["loss"]], feed)
        return {"initial": before, "trained": checksum(state()), "loss": float(loss)}


def presets(root: Path):
    """The name and the settings of each config file that commit 4c31e84 has."""
    from config import parse_command_line

    for path in sorted((root / "configs").rglob("*.yaml")):
        if path.parent.name != "long" and not (path.parent / "sweep.yaml").exists():
            name = str(path.relative_to(root / "configs").with_suffix(""))
            yield name, parse_command_line(["--config", str(path)]).config


if __name__ == "__main__":
    root = Path(sys.argv[1]).resolve()
    sys.path.insert(0, str(root))
    import config as settings
    import train_mnist
    from mnist_data import load, stratified_split

    data, made = load("digits", ""), {}
    for name, config in presets(root):
        config = dataclasses.replace(config, precision=settings.resolve_precision(config.precision))
        split, _ = stratified_split(data.train.labels, config.validation_fraction, config.split_seed)
        bits = bits_of(lambda config: train_mnist.build_graph(config, 10), config, data, split)
        made[name] = bits | {"precision": config.precision}
        print(name, bits, file=sys.stderr)
    print(json.dumps({"cpu": processor(), "presets": made}, indent=1))
