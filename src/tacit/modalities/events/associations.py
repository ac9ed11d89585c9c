"""Initial embeddings of items, from co-occurrence counts.

c_ij sums 0.5^(k-1) over all occurrences of items i and j k events apart, up to ten. With c_i = sum_j c_ij and
q_j = c_j^0.75 / sum_i c_i^0.75, the matrix M_ij = max(0, log(c_ij / (c_i q_j)) + 1) is factorised as U S V' of its
largest singular values, and item i is initialised as row i of U S^(1/2) (Levy, Goldberg & Dagan 2015, "Improving
distributional similarity with lessons learned from word embeddings"). Departure: 1 is added where they subtract the
logarithm of a number of negatives, since counts are few.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array

from tacit.modalities.events.counts import enough, followers
from tacit.modalities.events.histories import Histories

DECAY, SMOOTHED, SHIFT = 0.5, 0.75, 1.0
MOST = 200_000  # most frequent items at most; others are not initialised


def associations(histories: Histories, dim: int) -> NDArray[np.float32]:
    """Embeddings [n D] with a root mean square of 1 over items that co-occur with others; 0 for all others."""
    from sklearn.utils.extmath import randomized_svd

    followed = followers(enough(histories), DECAY)
    together = (followed + followed.T).tocsr()
    near = together.sum(axis=1)
    kept = np.sort(np.argsort(-near, kind="stable")[: min(MOST, int((near > 0).sum()))])
    found = np.zeros((histories.n_items, dim), np.float32)
    width = min(dim, len(kept))
    if not width:
        return found
    u, s, _ = randomized_svd(informative(together[kept][:, kept].tocoo()), width, random_state=0)
    vectors = u * np.sqrt(s)
    found[kept, :width] = vectors / max(np.sqrt(np.mean(vectors**2)), 1e-12)
    return found


def informative(together: coo_array) -> coo_array:
    """The matrix M of counts c."""
    near = together.sum(axis=1)
    smoothed = near**SMOOTHED
    share = smoothed / smoothed.sum()
    information = np.log(together.data / (near[together.row] * share[together.col])) + SHIFT
    return coo_array((np.maximum(information, 0), together.coords), shape=together.shape).tocsr()
