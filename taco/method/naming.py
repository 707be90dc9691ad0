"""Several classes in one region: each proposal is named on its own, by what is seen and by what is heard. Not of the paper.

The paper gives a region one class, the one closest to the chosen factor (Sec. 3.4), so that a scene with two sources gets
one label; its supplement (Sec. 9) names this as a weakness. Here the region stays as it is, pixel by pixel, and only the
names in it change. With pooled CLIP feature ``v_q`` of proposal q and embedding ``a`` of the whole sound,

    p(j | q) = softmax_j(τ_I cos(v_q, b_I^j)) · (1 - p_void(q)),    p(j) = softmax_j(τ_A cos(a, b_A^j))
    name of q = argmax_j p(j | q) · p(j)
    owner of pixel x = argmax_q s_q · σ(m_q(x)),    class of x = name of its owner

over the dataset's classes j with both models' own scales τ, and with FC-CLIP's ensemble settings of A-FC-CLIP.
``s_q`` is the probability with which q belongs to the factor (or class) whose region it is, so a pixel's owner is the
proposal that contributes most to the map there. The product is Bayes' rule for a source that image and sound show
independently of each other, under equal priors; nothing is trained.
"""

import torch
from torch import Tensor

FACTOR, PROPOSALS = "factor", "proposals"
"""What is named: ``variants.*.classes`` of the configuration."""


def names(seen: Tensor, heard: Tensor, candidates: range) -> Tensor:
    """Name each proposal.

    Parameters
    ----------
    seen : float [Q, J]
        Probability of each class on each proposal, by CLIP; rows may sum to less than 1.
    heard : float [J]
        Probability of each class in the sound, by CLAP.
    candidates : range
        Classes that can be named, of 0 … J - 1: a background is none.

    Returns
    -------
    int64 [Q]
        Class of each proposal, 0 … J - 1; the first of equals.

    Examples
    --------
    >>> names(torch.tensor([[0.6, 0.4, 0.0], [0.1, 0.2, 0.7]]), torch.tensor([0.5, 0.5, 0.0]), range(3)).tolist()
    [0, 1]
    """
    first = candidates.start
    # In logarithms: products of small probabilities would underflow to equals.
    joint = seen[:, first : candidates.stop].log() + heard[first : candidates.stop].log()
    return first + joint.argmax(-1)


def owners(region: Tensor, shares: Tensor, masks: Tensor) -> Tensor:
    """Proposal that contributes most to the map at each pixel of a region.

    Parameters
    ----------
    region : bool [H, W]
    shares : float [Q]
        Probability with which each proposal belongs to the region's factor.
    masks : float [Q, H, W]
        Soft masks in 0..1.

    Returns
    -------
    int64 [n]
        For the region's n pixels in reading order; the first of equals.
    """
    return (shares[:, None] * masks[:, region]).argmax(0)


def paint(region: Tensor, shares: Tensor, masks: Tensor, ids: Tensor) -> Tensor:
    """Give each pixel of a region the class id of its owner.

    Parameters
    ----------
    region, shares, masks
        As of `owners`.
    ids : int64 [Q]
        Class id of each proposal.

    Returns
    -------
    int64 [H, W]
        0 outside the region.
    """
    painted = torch.zeros(region.shape, dtype=torch.int64, device=region.device)
    painted[region] = ids[owners(region, shares, masks)]
    return painted
