"""The method in PyTorch, independent of the Rust code: complexity, vulnerability and the anomaly score of an image.

Definitions: Hwang, Park, Lee, CVPR 2024, arXiv:2312.10634, with the constants of the code its authors released; `exact` is
this project's noise-free variant. Every random tensor is an argument, so that two programs can be fed the same one.
Throughout: `net` maps images B×3×H×W in [0, 1] to features B×D (normalisation belongs to it); images, noise and starts
are B×3×H×W; the numbers have the images' dtype. What is undefined is None.
"""

from dataclasses import dataclass

import torch

from jets import jet

STEPS, EPSILON = 10, 0.01
ATTACK_STEPS, ATTACK_EPSILON, ATTACK_STEP_SIZE, ATTACK_START = 10, 8 / 255, 2 / 255, 1e-6


@dataclass
class Complexity:
    """Per image: `value` C in radians, None where a step is zero; paper only: features K+1×D and the K−1 angles."""

    value: list
    features: torch.Tensor | None = None
    angles: torch.Tensor | None = None


def unit(noise):
    """Noise scaled to L2 norm 1 over each whole image."""
    return noise / noise.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


def inside(images, direction):
    """`direction` with those entries zero that point out of the box at pixels already at 0 or 1."""
    leaving = ((images <= 0) & (direction < 0)) | ((images >= 1) & (direction > 0))
    return direction.masked_fill(leaving, 0)


def path_complexity(net, images, noise, steps=STEPS, epsilon=EPSILON) -> Complexity:
    """C of protocols `paper` and `official-code`: mean angle between consecutive feature steps along `noise`.

    `noise` is scaled to unit norm here. features: B×(K+1)×D, angles: B×(K−1), NaN where a step is zero.
    """
    direction = unit(noise)
    with torch.inference_mode():
        features = torch.stack(
            [net((images + k * epsilon * direction).clamp(0, 1)) for k in range(steps + 1)], dim=1
        )
        moves = features.diff(dim=1)
        lengths = moves.norm(dim=2)
        cosines = (moves[:, 1:] * moves[:, :-1]).sum(2) / (lengths[:, 1:] * lengths[:, :-1])
        angles = cosines.clamp(-1, 1).arccos()
        means = angles.mean(1)
    return Complexity([None if value != value else value for value in means.tolist()], features, angles)


def exact_complexity(net, images, noise, epsilon=EPSILON) -> Complexity:
    """C of protocol `exact`: ε·‖P·g''‖ / ‖g'‖ of g(t) = M(x + t·n̂) at 0, P the projection orthogonal to g'.

    Means nothing on networks with kinks, where g'' = 0 almost everywhere; the caller sees to that.
    """
    y1, y2 = jet(net, images, inside(images, unit(noise)))
    values = []
    for first, second in zip(y1, y2):
        length = first.norm()
        if length == 0:
            values.append(None)
            continue
        along = first / length
        values.append((epsilon * (second - along * (along @ second)).norm() / length).item())
    return Complexity(values)


def _distance_gradient(net, point, target):
    point = point.detach().requires_grad_()
    loss = (net(point) - target).square().mean(1).sum()  # a sum over images: each image's gradient stays its own
    return torch.autograd.grad(loss, point)[0]


def _noise_free_gradient(net, images, start):
    """(M(x), Jᵀ(J·δ0)) at the images: the latter is where the distance's gradient points as the start shrinks to 0."""
    with torch.no_grad():
        _, moved = torch.func.jvp(net, (images,), (start,))
    point = images.detach().requires_grad_()
    features = net(point)
    return features.detach(), torch.autograd.grad(features, point, grad_outputs=moved)[0]


def attack(
    net,
    images,
    start,
    ascend=True,
    noise_free_start=False,
    steps=ATTACK_STEPS,
    epsilon=ATTACK_EPSILON,
    step_size=ATTACK_STEP_SIZE,
    distances=False,
    target=None,
):
    """(attacked images, distances): projected sign-gradient steps on the feature distance from M(images).

    start: δ0, U(−1e-6, 1e-6) under every protocol. ascend: True as the paper describes, False as the released code does.
    noise_free_start: the first step's gradient is Jᵀ(J·δ0), δ0 without the entries that leave the box (`exact`).
    target: M(images), B×D, if the caller has it already.
    distances: B×(J+1) of ‖M(x^j) − M(x)‖₂ for j = 0..J if asked for, else B×1 with the last only, which is V.
    """
    sign = 1 if ascend else -1
    start = inside(images, start)
    if noise_free_start:
        target, first_gradient = _noise_free_gradient(net, images, start)
    elif target is None:
        with torch.no_grad():
            target = net(images)
    point = (images + start).clamp(0, 1)
    found = []

    def note():
        with torch.no_grad():
            found.append((net(point) - target).norm(dim=1))

    for j in range(steps):
        if distances:
            note()
        if j == 0 and noise_free_start:
            gradient = first_gradient
        else:
            gradient = _distance_gradient(net, point, target)
        moved = (point + step_size * (sign * gradient.sign()) - images).clamp(-epsilon, epsilon)
        point = (images + moved).clamp(0, 1)
    note()
    return point, torch.stack(found, dim=1)


@dataclass
class Measurement:
    """Per image, lists of length B: C in radians, V in feature units, AS-i = V/C (higher: less natural), or None."""

    complexity: list
    vulnerability: list
    anomaly_score_i: list


def measure(net, images, noise, start, protocol="paper") -> Measurement:
    """One measurement of a batch under `paper`, `official-code` or `exact`, with the published constants."""
    if protocol not in ("paper", "official-code", "exact"):
        raise ValueError(f"protocol {protocol!r}: expected paper, official-code or exact")
    exact = protocol == "exact"
    complexity = (exact_complexity if exact else path_complexity)(net, images, noise).value
    _, distances = attack(net, images, start, ascend=protocol != "official-code", noise_free_start=exact)
    vulnerability = distances[:, -1].tolist()
    scores = [v / c if c else None for v, c in zip(vulnerability, complexity)]
    return Measurement(complexity, vulnerability, scores)
