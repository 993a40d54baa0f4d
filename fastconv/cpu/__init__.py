"""The CPU backend: NumPy arrays, kernels compiled by Numba."""
