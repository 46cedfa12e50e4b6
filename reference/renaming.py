"""Other names of a checkpoint's tensors: from rules, and the tensors under those names.

A spelling is a dict: other name → (shape, pieces). The tensor is its pieces one below the other, each
{name, rows, transposed} of an upstream tensor; fixtures/network/spellings.json holds the same.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass
class Spelling:
    """Names of one network's tensors in another package, and that package's own reading of them.

    `load` makes the package's module in f64 from tensors under its published names, `feature` gives that module's features
    of normalised images. `published` are those names where `names` are the ones the loaded module has in memory.
    """

    package: str
    names: dict
    load: Callable
    feature: Callable
    published: dict | None = None

    def features(self, tensors: dict, images: torch.Tensor) -> torch.Tensor:
        """Features from upstream-named `tensors`; raises if the names in memory are others than said."""
        net = self.load(assembled(self.published or self.names, tensors))
        if self.published:
            expected = assembled(self.names, tensors)
            state = net.state_dict()
            # heads that the feature does not need are not in the file
            head = re.compile(r"classifier|pooler\.|decoder|mask_token|position_ids|num_batches_tracked")
            others = {name for name in state.keys() ^ expected.keys() if not head.search(name)}
            others |= {name for name in state.keys() & expected.keys() if not torch.equal(state[name], expected[name].to(state[name]))}
            if others:
                raise RuntimeError(f"{self.package}: in memory it has other tensors: {sorted(others)[:8]}")
        with torch.inference_mode():
            return self.feature(net, images)


def renamed(shapes: dict, rules: list, root: str = "") -> dict:
    """The spelling that `rules` make of upstream `shapes`, `root` before every name.

    A rule is a pattern of an upstream name and the other package's names: none where it has no such tensor, several for
    one whose rows it keeps apart. The first rule that matches counts.
    """
    found = {}
    for name, shape in shapes.items():
        pattern, targets = next(rule for rule in rules if re.match(rule[0], name))
        for n, target in enumerate(targets):
            other = re.sub(pattern, target, name)
            piece, written = {"name": name}, shape
            if len(targets) > 1:
                part = shape[0] // len(targets)
                piece["rows"] = [n * part, (n + 1) * part]
                written = (part, *shape[1:])
            elif other == "visual_projection.weight":
                piece["transposed"] = True
                written = shape[::-1]
            elif other.endswith("position_embedding.weight"):
                written = shape[-2:]
            found[other if other == "visual_projection.weight" else root + other] = (written, [piece])
    return found


def assembled(names: dict, tensors: dict) -> dict:
    """The tensors of a spelling from those of the upstream one."""
    found = {}
    for name, (shape, pieces) in names.items():
        parts = []
        for piece in pieces:
            value = tensors[piece["name"]]
            if "rows" in piece:
                value = value[slice(*piece["rows"])]
            parts.append(value.T if piece.get("transposed") else value)
        found[name] = torch.cat(parts).reshape(shape).contiguous() if shape else parts[0]
    return found
