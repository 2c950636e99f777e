"""The regions of the plane that a linear classifier, or the nearest center, gives to each class: convex polygons."""

import numpy as np


def cells(weights: np.ndarray, bias: np.ndarray, box: tuple[float, float, float, float]) -> list[np.ndarray]:
    """Where each class has the largest score x · w_j + b_j.

    Args:
        weights: [2, C].
        bias: [C].
        box: x0, x1, y0, y1, the part of the plane.

    Returns:
        For each of the C classes the corners of its region, [any number, 2], in order around it; empty if it has none.
    """
    x0, x1, y0, y1 = box
    regions = []
    for j in range(len(bias)):
        corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float64)
        for k in range(len(bias)):
            lead = corners @ (weights[:, j] - weights[:, k]) + (bias[j] - bias[k])  # of class j before class k
            if len(corners) and lead.min() < 0:
                corners = _cut(corners, lead)
        regions.append(corners)
    return regions


def nearest_cells(centers: np.ndarray, box: tuple[float, float, float, float]) -> list[np.ndarray]:
    """Where each of the [C, 2] centers is the nearest: |x − c_j|² is least where x · c_j − |c_j|² / 2 is largest."""
    centers = centers.astype(np.float64)
    return cells(centers.T, -0.5 * (centers**2).sum(axis=1), box)


def _cut(corners: np.ndarray, lead: np.ndarray) -> np.ndarray:
    """What is left of a convex polygon where `lead`, a linear function given at its corners, is not negative."""
    left = []
    for i in range(len(corners)):
        before, here = lead[i - 1], lead[i]
        if (before < 0) != (here < 0):
            left.append(corners[i - 1] + before / (before - here) * (corners[i] - corners[i - 1]))
        if here >= 0:
            left.append(corners[i])
    return np.array(left).reshape(-1, 2)
