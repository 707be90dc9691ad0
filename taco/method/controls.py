"""Control methods that bound every score table: whole image, random mask, oracle mask, shuffled audio.

The first three are binary masks; they are scored as {0, 1} maps and bypass `taco.metrics.min_max`. The
fourth is a method (TACO, U only) run on another clip's sound: here is only the pairing. All chance comes
from the seed and the sample's or clip's name, so a control does not depend on order, batch or shard.
"""

import numpy as np
import pandas as pd

from taco.runtime import generator


def whole_image(shape):
    """Mark everything: bool [H, W]."""
    return np.ones(shape, dtype=bool)


def random_mask(seed, key, shape):
    """A random rectangle, whole inside the image, whose area is uniform between 0 and the image.

    The area's share a is drawn from U(0, 1); the height's share h from log-uniform [a, 1], the width's is
    a / h; the place is uniform. Sides are rounded to whole pixels, at least one.

    Parameters
    ----------
    seed : int
    key : str
        "<dataset>/<sample_id>"
    shape : (H, W)

    Returns
    -------
    bool [H, W], at least one pixel marked
    """
    rng = generator(seed, "random mask", key)
    area = 1 - rng.random()  # (0, 1]
    height = area ** rng.random()
    sides = [max(1, round(share * n)) for share, n in zip((height, area / height), shape, strict=True)]
    top, left = (int(rng.integers(n - side + 1)) for n, side in zip(shape, sides, strict=True))
    mask = np.zeros(shape, dtype=bool)
    mask[top : top + sides[0], left : left + sides[1]] = True
    return mask


def random_class(seed, key, n_labels, first_id=0):
    """The random control's class on semantic tasks: an id, uniform over the labels."""
    return first_id + int(generator(seed, "random class", key).integers(n_labels))


def oracle_class(truth):
    """The oracle control's class on semantic tasks: the most frequent id > 0 of truth [H, W], 0 if none."""
    counts = np.bincount(np.asarray(truth).ravel())
    counts[:1] = 0
    return int(counts.argmax())


def oracle_union(masks, truth):
    """The union of proposals closest to the truth, found greedily.

    Starts from nothing and adds the proposal that raises the union's IoU most, until none does. Greedy, not
    exhaustive: never worse than the best single proposal, not always the best union.

    Parameters
    ----------
    masks : bool [Q, H, W]
        proposals (mask logits > 0)
    truth : bool [H, W]

    Returns
    -------
    bool [H, W]; empty when no proposal touches the truth (or the truth is empty)
    """
    masks, truth = np.asarray(masks, dtype=bool), np.asarray(truth, dtype=bool)
    if masks.ndim != 3 or masks.shape[1:] != truth.shape:
        raise ValueError(f"masks {masks.shape} must be [Q, H, W] over the truth's {truth.shape}")
    masks = masks[(masks & truth).any(axis=(1, 2))]  # the others can only lower the IoU
    flat = masks.reshape(len(masks), truth.size).astype(np.float32)  # [Q, P]; sums below 2^24 are exact
    wanted = truth.ravel()
    union = np.zeros(truth.size, dtype=bool)
    best, positives = 0.0, int(wanted.sum())
    while len(masks):
        gains = np.stack([wanted & ~union, ~wanted & ~union], axis=1).astype(np.float32)  # [P, 2]
        inside, outside = (flat @ gains).astype(np.float64).T
        inside += np.count_nonzero(union & wanted)
        outside += np.count_nonzero(union & ~wanted)
        iou = inside / np.maximum(positives + outside, 1)
        choice = int(iou.argmax())
        if iou[choice] <= best:
            break
        best = iou[choice]
        union |= masks[choice].ravel()
    return union.reshape(truth.shape)


PAIRED_TOGETHER = 2048
"""Clips among which the best pairing is sought."""


def derangement(clips, seed, classes=None):
    """Give every clip another clip's sound: one fixed pairing per seed.

    Among all pairings without a fixed point, one with the fewest classes shared between a clip and its
    partner; chance decides between equals. (Where every clip has the same class, sharing cannot be
    avoided.) More than `PAIRED_TOGETHER` clips are parted by chance and paired within their part, as time and memory
    grow with the square of the clips that are paired together.

    Parameters
    ----------
    clips : sequence of str
        clip ids, unique; their order does not matter
    seed : int
    classes : mapping clip → iterable of class names, optional

    Returns
    -------
    dict clip → the clip whose sound it gets (each clip's sound is used once)
    """
    names = sorted(clips)
    if len(set(names)) != len(names):
        raise ValueError("clip ids must be unique")
    if len(names) < 2:
        raise ValueError(f"shuffled audio needs at least two clips, found {len(names)}: raise `limit`")
    rng = generator(seed, "shuffled audio")
    if len(names) <= PAIRED_TOGETHER:
        return _pairing(names, rng, classes)
    mixed = [names[place] for place in rng.permutation(len(names))]
    parts = [list(part) for part in np.array_split(mixed, -(-len(names) // PAIRED_TOGETHER))]
    return {clip: other for part in parts for clip, other in _pairing(part, rng, classes).items()}


def _pairing(names, rng, classes):
    """`derangement` of a list of clips, whose cost is a square matrix."""
    cost = rng.random((len(names), len(names)))
    if classes is not None:
        sets = [frozenset(classes.get(name, ())) for name in names]
        index = {label: i for i, label in enumerate(sorted(frozenset().union(*sets)))}
        member = np.zeros((len(names), len(index)))
        for row, labels in enumerate(sets):
            member[row, [index[label] for label in labels]] = 1
        cost += member @ member.T * (len(names) + 1)  # one shared class outweighs all chance
    np.fill_diagonal(cost, (cost.max() + 1) * (len(names) + 1))
    from scipy.optimize import linear_sum_assignment  # takes half a second, and few jobs exchange sounds

    _, partner = linear_sum_assignment(cost)
    return {name: names[other] for name, other in zip(names, partner, strict=True)}


def shuffled_samples(manifest, seed):
    """Which sample's sound each sample gets in the shuffled-audio control.

    Clips are paired by `derangement` (classes of a clip = those of its samples, where known); the n-th
    frame gets the partner's n-th piece of sound, counted round when the partner is shorter.

    Parameters
    ----------
    manifest : DataFrame
        columns sample_id, clip_id, frame, classes; the whole dataset, not a shard
    seed : int

    Returns
    -------
    Series of sample ids, indexed by sample_id, in the manifest's order
    """
    ordered = manifest.sort_values(["clip_id", "frame"], kind="stable")
    clips = ordered.groupby("clip_id", sort=True)["sample_id"].agg(list).to_dict()
    classes = {clip: set() for clip in clips}
    for clip, names in zip(manifest["clip_id"], manifest["classes"], strict=True):
        classes[clip].update(names)
    partner = derangement(list(clips), seed, classes)
    pairs = {}
    for clip, samples in clips.items():
        sounds = clips[partner[clip]]
        pairs |= {sample: sounds[place % len(sounds)] for place, sample in enumerate(samples)}
    return pd.Series(
        [pairs[s] for s in manifest["sample_id"]], index=manifest["sample_id"], name="audio_sample_id"
    )
