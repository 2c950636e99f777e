"""Center loss as a Keras layer, for `compile` and `fit` (Keras 3). This file needs no other of the project: copy it.

    x = CenterLoss(num_classes=10, weight=0.1)([features, labels])

Letters in the shapes: B batch, C classes, D feature width.
"""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="centerloss")
class CenterLoss(keras.layers.Layer):
    """Gives the features back as they are, adds weight · L_C / B to the model's loss, and moves the centers in `fit`.

    Called with [features, labels], [B, D] of any float and [B] or [B, 1] integer class ids. In `evaluate` and `predict`
    the centers stay. They are the weight `centers`, [C, D] float32, zeros at first, and are saved with the model.

    Args:
        num_classes: C.
        weight: lambda_eff, the weight of Eq. 2 per image beside a mean cross entropy (Eq. 5 of the paper).
        alpha: of Eq. 4, the rate of the centers.

    Raises:
        ValueError: if an argument is out of range, or the shapes are not as above.
    """

    def __init__(self, num_classes: int, weight: float = 0.1, alpha: float = 0.5, **options) -> None:
        super().__init__(autocast=False, **options)  # half precision has not every class id
        if num_classes < 1 or weight < 0 or not 0 <= alpha <= 1:
            given = f"{num_classes}, {weight}, {alpha}"
            raise ValueError(f"expected num_classes > 0, weight >= 0, alpha in 0..1, got {given}")
        self.num_classes, self.weight, self.alpha = num_classes, weight, alpha

    def build(self, shapes) -> None:
        if len(shapes) != 2 or len(shapes[0]) != 2 or tuple(shapes[1][1:]) not in ((), (1,)):
            raise ValueError(
                f"expected features [B, D] and class ids [B] or [B, 1], got {shapes}; argmax one-hot labels"
            )
        shape, fixed = (self.num_classes, shapes[0][1]), {"trainable": False, "autocast": False}
        self.centers = self.add_weight(shape, "zeros", "float32", name="centers", **fixed)

    def call(self, inputs, training=None):
        x, y = ops.cast(inputs[0], "float32"), ops.cast(ops.reshape(inputs[1], [-1]), "int32")
        c = ops.convert_to_tensor(
            self.centers
        )  # read once: the loss and the update see the centers from before the step
        own_c = ops.take(c, y, axis=0)
        self.add_loss(self.weight * ops.mean(ops.sum((x - own_c) ** 2, axis=1)) / 2)  # Eq. 2
        if training:
            counts = ops.segment_sum(ops.ones_like(x[:, :1]), y, self.num_classes)  # [C, 1]
            sums = ops.segment_sum(own_c - x, y, self.num_classes)  # [C, D]
            self.centers.assign(ops.stop_gradient(c - self.alpha * sums / (1 + counts)))  # Eq. 4
        return inputs[0]

    def compute_output_shape(self, shapes):
        return shapes[0]

    def get_config(self) -> dict:
        return super().get_config() | {"num_classes": self.num_classes, "weight": self.weight, "alpha": self.alpha}
