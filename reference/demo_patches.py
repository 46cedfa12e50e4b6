"""Detail for a small layout by patch nearest neighbours, octave by octave.

The image is doubled in size, every overlapping patch of it is replaced by the
closest patch of the demo photographs at that size, and overlaps are averaged:
one step of patch nearest-neighbour generation (Granot et al. 2022,
arXiv:2103.15545), with a dictionary drawn from many photographs instead of one.
Local texture comes out photographic; edges and objects do not agree with each
other across patches.
"""

import numpy as np
import torch
from torch.nn import functional


def pyramid(photos, octaves):
    """For each octave, photos reduced by 2^(octaves − 1 − octave), as 3×H×W."""
    levels = []
    for octave in range(octaves):
        factor = 2 ** (octaves - 1 - octave)
        level = []
        for photo in photos:
            size = (photo.width // factor, photo.height // factor)
            pixels = np.asarray(photo.resize(size, 4), np.float32) / 255  # 4: box
            level.append(torch.from_numpy(pixels).permute(2, 0, 1))  # HWC → CHW
        levels.append(level)
    return levels


def dictionary(level, patch, count, generator):
    """`count` random patches: keys as an image doubled in size would show them
    and the sharp values at the same places, both count×(3·patch·patch)."""
    keys, values = [], []
    each = -(-count // len(level))
    for sharp, soft in zip(level, _softened(level)):
        rows = torch.randint(sharp.shape[1] - patch + 1, (each,), generator=generator)
        columns = torch.randint(sharp.shape[2] - patch + 1, (each,), generator=generator)
        for image, into in ((soft, keys), (sharp, values)):
            windows = image.unfold(1, patch, 1).unfold(2, patch, 1)
            # Channels first inside a patch, as torch's unfold of an image has them.
            into.append(windows[:, rows, columns].transpose(0, 1).flatten(1))
    return torch.cat(keys), torch.cat(values)


def _double(image, size):
    return functional.interpolate(
        image[None], size=size, mode="bicubic", align_corners=False, antialias=False
    )[0].clamp(0, 1)


def _softened(level):
    """Each image as it looks after losing its last octave."""
    out = []
    for image in level:
        half = functional.interpolate(
            image[None], scale_factor=0.5, mode="bilinear", antialias=True, align_corners=False
        )[0]
        out.append(_double(half, image.shape[1:]))
    return out


def replace_patches(image, keys, values, patch, stride):
    """Every patch swapped for the value of its nearest key; overlaps averaged."""
    # One row of patches per stride; the last one is moved so that it ends at the border.
    padded = functional.pad(
        image[None],
        (0, -(image.shape[2] - patch) % stride, 0, -(image.shape[1] - patch) % stride),
        mode="replicate",
    )
    queries = functional.unfold(padded, patch, stride=stride)[0].T
    squares = keys.square().sum(1)
    nearest = []
    for chunk in queries.split(512):
        nearest.append((squares - 2 * chunk @ keys.T).argmin(1))
    found = values[torch.cat(nearest)]
    # A Gaussian window hides the patch borders without blurring the middle.
    axis = torch.arange(patch) - (patch - 1) / 2
    window = torch.exp(-axis.square() / (2 * (patch / 4) ** 2))
    window = (window[:, None] * window[None, :]).flatten().repeat(3)
    size = padded.shape[2:]
    total = functional.fold((found * window).T[None], size, patch, stride=stride)
    weight = functional.fold(window.expand_as(found).T[None], size, patch, stride=stride)
    return (total / weight)[0, :, : image.shape[1], : image.shape[2]]


def add_detail(image, dictionaries, patch):
    """Double `image`, 3×H×W, once for each entry of `dictionaries`.

    An entry is the (keys, values) of that octave, or None to leave it soft.
    """
    for entry in dictionaries:
        image = _double(image, (2 * image.shape[1], 2 * image.shape[2]))
        if entry is not None:
            image = replace_patches(image, *entry, patch, stride=patch // 2)
    return image.clamp(0, 1)
