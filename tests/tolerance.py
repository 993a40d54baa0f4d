"""How far a result may lie from the exact one: the one place that says so."""

import numpy as np

# Growth of the error over that of the plain sum, by algorithm. Winograd's is 7.9 squared: on an axis, the largest sum
# of |A| |G| |B| for a result, over its three terms. What goes into a result's error is all of its tile.
GROWTH = {"direct": 1.0, "winograd": 63.0}


def tolerance(dtype, length, algorithm="direct"):
    """Largest error of a sum of ``length`` products, in units of the sum of their magnitudes.

    The bound of a sum in any order is ``length * unit / (1 - length * unit)`` (N. J. Higham, "Accuracy and Stability of
    Numerical Algorithms", 2nd ed., SIAM 2002, section 3.1); it counts twice because the expected value is computed too.
    """
    roundings = (length + 1) * np.finfo(dtype).eps / 2
    return 2 * GROWTH[algorithm] * roundings / (1 - roundings)


def assert_close(actual, expected, magnitude, length, algorithm="direct"):
    """``actual`` is ``expected`` within the tolerance of its dtype; ``magnitude`` sums the terms' magnitudes."""
    if algorithm == "winograd" and np.size(magnitude):
        magnitude = np.max(magnitude)
    allowed = tolerance(actual.dtype, length, algorithm) * magnitude + length * np.finfo(actual.dtype).tiny
    assert actual.shape == expected.shape
    error = np.abs(actual.astype(np.float64) - expected)
    worst = np.unravel_index(np.argmax(error - allowed), error.shape) if error.size else ()
    assert np.all(error <= allowed), (
        f"at {tuple(map(int, worst))}: got {actual[worst]}, expected {expected[worst]}, "
        f"error {error[worst]:.3g} where {allowed[worst]:.3g} is allowed"
    )
