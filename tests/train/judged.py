"""Records that people and a judge have judged, drawn at random."""

import numpy as np


def sample(rng, num_human, num_others, win, tie, right, bias, size):
    """Return the points of people and of a judge with a ``bias`` where it is wrong, in clusters of ``size`` records."""
    num = num_human + num_others
    groups = -(-num // size)
    chance = rng.beta(win * 2, (1 - win) * 2, groups) if size > 1 else np.full(groups, win)
    cluster = np.repeat(np.arange(groups), size)[:num]
    human = (rng.random(num) < chance[cluster]).astype(float)
    human[rng.random(num) < tie] = 0.5
    judge = human.copy()
    wrong = rng.random(num) > right
    judge[wrong] = rng.random(wrong.sum()) < bias
    order = rng.permutation(num)
    names = [f"c{number}" for number in cluster]
    labelled = [(names[i], human[i], judge[i]) for i in order[:num_human]]
    return labelled, [(names[i], judge[i]) for i in order[num_human:]]
