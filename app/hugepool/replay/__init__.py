"""Recordings of real kernels against the model, counter by counter."""
