"""Checks a statistics file that `anomaly-score features … -o FEATURES.npz --statistics STATISTICS.npz` wrote, as pytorch-fid and
clean-fid read one (`f["mu"][:], f["sigma"][:]`), against numpy's mean and covariance of the features.

    python reference/statistics_file.py STATISTICS.npz FEATURES.npz [OTHER_STATISTICS.npz]

With another file it also prints their Fréchet distance by scipy.linalg.sqrtm. `compare` of the two gives the same to 1e-8 relative,
or to the 1e-6 that sqrtm itself loses where a covariance is singular.
"""

import sys

import numpy as np
from scipy import linalg


def read(path):
    with np.load(path) as f:
        mu, sigma = f["mu"][:], f["sigma"][:]
    assert mu.dtype == sigma.dtype == np.float64 and sigma.shape == (*mu.shape, *mu.shape), (mu.shape, sigma.shape)
    assert (sigma == sigma.T).all()
    return mu, sigma


statistics, features, *others = sys.argv[1:]
mu, sigma = read(statistics)
x = np.load(features)["features"].astype(np.float64)
# Sums of n terms in another order: n roundings of the largest term.
tolerance = len(x) * np.finfo(float).eps
assert np.abs(mu - x.mean(0)).max() <= tolerance * np.abs(x).max()
assert np.abs(sigma - np.cov(x, rowvar=False)).max() <= tolerance * np.abs(sigma).max()
print(f"{statistics}: mean and covariance of {features} ({len(x)} images), read by numpy {np.__version__}")
for other in others:
    mu2, sigma2 = read(other)
    root = linalg.sqrtm(sigma @ sigma2).real
    print(f"{other}: {np.sum((mu - mu2) ** 2) + np.trace(sigma + sigma2 - 2 * root)!r}")
