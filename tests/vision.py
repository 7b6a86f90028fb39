"""How colours look without colour, and to eyes that lack the receptors for green or for red light.

Matrices for linear RGB: Machado, Oliveira and Fernandes, A physiologically-based model for simulation of
color vision deficiency, IEEE TVCG 15(6), 2009, table of severity 1.0. Differences are Euclidean in CIELAB
(D65, CIE 1976).
"""

from __future__ import annotations

import numpy as np
from matplotlib.colors import to_rgb

EYES = {
    "all": np.eye(3),
    "no green": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "no red": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
}
LUMINANCE = np.array([0.2126729, 0.7151522, 0.0721750])
TO_XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], LUMINANCE, [0.0193339, 0.1191920, 0.9503041]])
WHITE = TO_XYZ.sum(axis=1)


def linear(colour) -> np.ndarray:
    """Linear RGB of a colour of matplotlib's."""
    values = np.array(to_rgb(colour))
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(light: np.ndarray) -> np.ndarray:
    """CIELAB of linear RGB."""
    xyz = TO_XYZ @ light.clip(0, 1) / WHITE
    x, y, z = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def difference(one, other, eyes: str) -> float:
    """How far two colours are apart to some eyes."""
    return float(np.linalg.norm(lab(EYES[eyes] @ linear(one)) - lab(EYES[eyes] @ linear(other))))


def lightness(colour) -> float:
    """L* of a colour, 0 black to 100 white: what is left of it in a grey print."""
    return float(lab(linear(colour))[0])
