"""Writes fixtures/onnx/: tiny networks as ONNX files, one a family of operators, with PyTorch's numbers in f64.

    python reference/onnx_fixtures.py [NAME...]

Beside NAME.onnx, NAME.json has the input (the generated stream of that name, see fixtures/network/README.md), the feature,
the gradient of ⟨feature, u values of `cotangent`⟩ by the input (its norm, and every fifth value of 3×H×W), and features
at layers. Networks with
kinks use the first image of `input`, `input.1`, … with which PyTorch's own f32 gradient is right to 3e-6: no unit lies
within rounding of a kink.
"""

import json
import sys
import warnings
from pathlib import Path

import onnx
import torch
import torch.nn.functional as F
from onnx import helper
from torch import nn

import generated_weights
from onnx_models import enliven, relative

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures" / "onnx"


class Residual(nn.Module):
    """Squeeze-and-excite between two convolutions, HardSwish, a shortcut."""

    def __init__(self, c):
        super().__init__()
        self.conv1 = nn.Conv2d(c, c, 3, padding=1, groups=c, bias=False)
        self.bn1 = nn.BatchNorm2d(c)
        self.reduce, self.expand = nn.Conv2d(c, 4, 1), nn.Conv2d(4, c, 1)
        self.conv2 = nn.Conv2d(c, c, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c)

    def forward(self, x):
        y = F.hardswish(self.bn1(self.conv1(x)))
        y = y * F.hardsigmoid(self.expand(F.relu(self.reduce(F.adaptive_avg_pool2d(y, 1)))))
        return x + self.bn2(self.conv2(y))


class Convolutions(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.block = Residual(8)
        self.grouped = nn.Conv2d(8, 12, 3, 1, 2, groups=4, dilation=2)
        self.norm = nn.BatchNorm2d(20)
        self.line = nn.Conv2d(20, 6, (1, 5), padding=(0, 2))
        self.head = nn.Linear(6 * 16, 7)

    def forward(self, x):
        x = self.block(self.stem(x))
        x = torch.cat([x, F.leaky_relu(self.grouped(x), 0.1)], 1)
        x = F.max_pool2d(x, 3, 2, 1, ceil_mode=True)
        x = self.line(F.relu(self.norm(x)))
        # 16 → 9 → 5 and 4
        x = F.avg_pool2d(x, 3, 2, 1)[..., :4, :4] + F.avg_pool2d(x, 2, 2, count_include_pad=False)
        return self.head(x.flatten(1)) + x.reshape(1, 6, 16)[..., :14].reshape(1, 6, 2, 7).amax((1, 2))


class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x):
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c))


class Block(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = Attention(dim, 2)
        self.scale = nn.Parameter(torch.full((dim,), 0.5))
        self.mlp = nn.Sequential(nn.Linear(dim, 24), nn.GELU(), nn.Linear(24, dim))

    def forward(self, x):
        x = x + self.scale * self.attn(self.norm1(x))
        return x + self.scale * self.mlp(self.norm2(x))


class Tokens(nn.Module):
    """A vision transformer with class token and LayerScale."""

    def __init__(self):
        super().__init__()
        self.patch_embed = nn.Conv2d(3, 12, 8, 8)
        self.cls_token = nn.Parameter(torch.randn(1, 1, 12))
        self.pos_embed = nn.Parameter(torch.randn(1, 17, 12) * 0.3)
        self.blocks = nn.ModuleList([Block(12), Block(12)])
        self.norm = nn.LayerNorm(12)

    def forward(self, x):
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], 1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.norm(x)[:, 0]


class Windows(nn.Module):
    """Shifted windows with a position bias, then patch merging, as in Swin."""

    def __init__(self):
        super().__init__()
        self.patch_embed = nn.Conv2d(3, 8, 4, 4)
        self.norm = nn.LayerNorm(8)
        self.qkv, self.proj = nn.Linear(8, 24), nn.Linear(8, 8)
        self.bias = nn.Parameter(torch.randn(2, 16, 16))
        self.merge = nn.Linear(32, 10)

    def forward(self, x):
        x = self.norm(self.patch_embed(x).permute(0, 2, 3, 1))
        y = torch.roll(x, (-2, -2), (1, 2)).reshape(1, 2, 4, 2, 4, 8).permute(0, 1, 3, 2, 4, 5).reshape(4, 16, 8)
        q, k, v = self.qkv(y).reshape(4, 16, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        y = ((q * 0.5) @ k.transpose(-2, -1) + self.bias).softmax(-1) @ v
        y = self.proj(y.transpose(1, 2).reshape(4, 16, 8)).reshape(1, 2, 2, 4, 4, 8).permute(0, 1, 3, 2, 4, 5)
        x = x + torch.roll(y.reshape(1, 8, 8, 8), (2, 2), (1, 2))
        x = torch.cat([x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]], -1)
        return F.gelu(self.merge(x), approximate="tanh").mean((1, 2))


class Shapes(nn.Module):
    """Padding, resizing, blocks of pixels, tiling, flipping, splitting."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.mix = nn.Conv2d(14, 6, 1)

    def forward(self, x):
        x = F.silu(self.conv(F.pad(x, (1, 2, 2, 1), mode="reflect")))
        a, b = x.split([3, 5], 1)
        up = F.interpolate(a, scale_factor=2.0, mode="nearest")
        a = F.interpolate(up, size=(16, 16), mode="bilinear", align_corners=False)
        b = F.interpolate(b, size=(16, 16), mode="bicubic", align_corners=True)
        c = F.pixel_unshuffle(F.pad(x[:, 2:4, 1:31, :30], (1, 1, 1, 1), value=0.5), 2)[:, :6, ::1].flip(3)
        x = self.mix(torch.cat([a, b, c], 1))
        x = F.pixel_shuffle(x[:, :4], 2) * x[:, 4:5].repeat(1, 1, 2, 2)
        return x[:, :, ::3, 5:].flatten(1)[:, ::7]


class Norms(nn.Module):
    """Norms over groups, instances and channels, rarer functions, attention across channels."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 12, 4, 4)
        self.group, self.instance, self.norm = nn.GroupNorm(3, 12), nn.InstanceNorm2d(12, affine=True), nn.LayerNorm(12)
        self.temperature = nn.Parameter(torch.tensor([[[1.3]], [[0.7]]]))
        self.gamma = nn.Parameter(torch.rand(1, 1, 1, 12))

    def forward(self, x):
        x = self.conv(x)
        y = self.instance(x)
        if y.requires_grad and not torch.jit.is_tracing():
            # PyTorch 2.15's backward of instance_norm is wrong (by 1.4 times the gradient) for a cotangent that lies
            # channels last, as the permutation below makes it; central differences show it.
            y.register_hook(lambda g: g.contiguous())
        x = F.mish(self.group(x)) + torch.tanh(y) * F.softplus(x)
        x = x.permute(0, 2, 3, 1)
        norm = x.norm(p=2, dim=(1, 2), keepdim=True)
        x = x + self.gamma * (x * (norm / (norm.mean(-1, keepdim=True) + 1e-6)))
        x = self.norm(x).reshape(1, 64, 2, 6).permute(0, 2, 3, 1)
        k = F.normalize(x, dim=-1)
        x = (self.temperature * torch.einsum("bhik,bhjk->bhij", k, k)).softmax(2) @ x
        x = torch.exp(-x * x) + torch.sqrt(x * x + 1) / (2 + torch.sigmoid(x)) - 1 / (1 + x.square())
        return torch.erf(x).sum(-1).flatten(1) * 0.1 + (x - x.mean(3, keepdim=True)).pow(3).mean(-1).flatten(1)


class Mixer(nn.Module):
    """Mixing tokens by a product from the left; LayerNorm as older exporters spell it; F.elu and clamping."""

    def __init__(self):
        super().__init__()
        self.patch_embed = nn.Conv2d(3, 10, 8, 8)
        self.norm1, self.norm2 = nn.LayerNorm(10), nn.LayerNorm(10)
        self.tokens = nn.Parameter(torch.randn(16, 16) * 0.3)
        self.channels = nn.Linear(10, 10)

    def forward(self, x):
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = x + self.tokens @ self.norm1(x)
        x = x + F.elu(self.channels(self.norm2(x))).clamp(-0.4, 1.5)
        return x.mean(1)


class StandardisedConv(nn.Conv2d):
    """Weight standardisation as timm has it: BatchNorm by the weight's own statistics."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.gain = nn.Parameter(torch.ones(self.out_channels))

    def forward(self, x):
        rows = self.weight.reshape(1, self.out_channels, -1)
        weight = F.batch_norm(rows, None, None, weight=self.gain, training=True, momentum=0.0, eps=1e-5)
        return self._conv_forward(x, weight.reshape_as(self.weight), self.bias)


class Rarities(nn.Module):
    """Two different strides, weights standardised on the way, picking by lists of indices, positions as running sums,
    convolutions of a batch, assignment to a slice."""

    def __init__(self):
        super().__init__()
        self.stem = StandardisedConv(3, 8, 4, 2, 1)
        self.wide = nn.Conv2d(8, 8, (3, 5), stride=(1, 2), padding=(1, 2))
        self.each = nn.Conv2d(8, 8, 3, stride=(3, 2), padding=1, groups=8)
        self.holes = nn.Conv2d(8, 6, (2, 3), stride=(2, 1), padding=(0, 2), dilation=(1, 2))
        self.shared, self.mixed = nn.Conv2d(3, 3, 3, padding=1, groups=3), nn.Conv2d(3, 3, 1)
        self.line = nn.Conv1d(6, 6, 3, stride=2)
        self.table = nn.Parameter(torch.randn(7, 6))
        self.register_buffer("order", torch.tensor([[0, 3, 6], [2, 2, 5]]))
        self.register_buffer("rows", torch.tensor([0, 1, 1, 0]))
        self.register_buffer("columns", torch.tensor([3, 0, 2, 2]))

    def forward(self, x):
        x = torch.tanh(self.stem(x))
        x = self.wide(x) + F.avg_pool2d(x, (2, 1), (1, 2), padding=(1, 0))[:, :, :16]
        pooled = F.max_pool2d(x, (3, 2), stride=(3, 2), padding=(1, 1))
        x = F.silu(self.each(x)) + pooled[:, :, :6, :4]
        x = self.holes(x)
        mask = torch.ones_like(x[:, 0]).cumsum(1) + 0.5 * torch.ones_like(x[:, 0]).cumsum(2)
        x = x + mask.unsqueeze(1).sin() * 0.3
        # heads as a batch, as in MViT
        heads = x.reshape(2, 3, 3, 4)
        x = x + self.mixed(self.shared(heads) + F.avg_pool2d(heads, 3, 1, 1)).reshape(1, 6, 3, 4)
        changed = x.clone()
        changed[:, 1:3, :2] = x[:, 3:5, 1:3] * 0.5
        x = changed
        picked = x[:, :, self.rows, self.columns]
        y = self.line(x.flatten(2)) + picked[..., :1] * self.table[self.order].sum((0, 1)).reshape(1, 6, 1)
        return torch.cat([y.flatten(1), picked.flatten(1)], 1)


# name → (network, exporter, opset, arguments of the exporter, layers as (name, module))
CASES = {
    "convolutions-legacy": (Convolutions, "legacy", 17, {}, ["block", "stem"]),
    "convolutions-dynamo": (Convolutions, "dynamo", 18, {}, ["block", "stem"]),
    "tokens-legacy": (Tokens, "legacy", 14, {}, ["blocks.0", "blocks.1.attn"]),
    "tokens-dynamo": (Tokens, "dynamo", 20, {}, ["blocks.0", "blocks.1.attn"]),
    "windows-legacy": (Windows, "legacy", 16, {}, []),
    "windows-dynamo": (Windows, "dynamo", 21, {}, []),
    "shapes-legacy": (Shapes, "legacy", 17, {}, []),
    "shapes-dynamo": (Shapes, "dynamo", 18, {}, []),
    "norms-legacy": (Norms, "legacy", 17, {}, []),
    "norms-dynamo": (Norms, "dynamo", 18, {}, []),
    "mixer-legacy": (Mixer, "legacy", 11, {}, []),
    # batch, height and width left open: arithmetic on shapes
    "open-legacy": (Tokens, "legacy", 17, {"dynamic_axes": {"x": {0: "n", 2: "h", 3: "w"}}, "input_names": ["x"]}, []),
    # weights in a file of their own
    "external": (Mixer, "dynamo", 18, {}, []),
    "rarities-legacy": (Rarities, "legacy", 17, {}, []),
    "rarities-dynamo": (Rarities, "dynamo", 18, {}, []),
    # operators that the file defines itself
    "functions": (Tokens, "dynamo", 18, {}, ["blocks.0", "blocks.1"]),
}
# What a file is there for, lest an exporter come to write it in another way.
NEEDED = {
    "rarities-legacy": {"CumSum", "BatchNormalization", "ScatterND"},
    "rarities-dynamo": {"GatherND", "ScatterND"},
    "functions": {"Block"},
}


def as_function(model, modules):
    """Moves the nodes of `modules`, which are alike, into one function of the file's own, called by each of them."""

    def inside(module):
        own = [n for n in model.graph.node if any(f"'{module}'" in p.value for p in n.metadata_props)]
        given = {o for n in own for o in n.output}
        read = [i for n in model.graph.node if n not in own for i in n.input] + [o.name for o in model.graph.output]
        (end,) = given & set(read)
        return own, end

    first, end = inside(modules[0])
    formal = [i for n in first for i in n.input if i and not any(i in m.output for m in first)]
    for module in modules:
        own, result = inside(module)
        if [n.op_type for n in own] != [n.op_type for n in first]:
            raise RuntimeError(f"{module} is not like {modules[0]}")
        same = {a: b for n, m in zip(first, own) for a, b in zip(n.input, m.input)}
        call = helper.make_node("Block", list(dict.fromkeys(formal)), [result], name=module, domain="own", epsilon=1e-5)
        call.input[:] = [same[i] for i in call.input]
        call.metadata_props.extend(own[-1].metadata_props)
        at = list(model.graph.node).index(own[-1])
        model.graph.node.insert(at, call)
        if module != modules[0]:
            for node in own:
                model.graph.node.remove(node)
    body = [onnx.NodeProto.FromString(n.SerializeToString()) for n in first]
    for node in first:
        model.graph.node.remove(node)
    for node in body:
        del node.metadata_props[:]
        # one attribute from the call
        for attribute in node.attribute:
            if node.op_type == "LayerNormalization" and attribute.name == "epsilon":
                attribute.ClearField("f")
                attribute.ref_attr_name = "epsilon"
    opsets = [helper.make_opsetid("", 18)]
    inputs = list(dict.fromkeys(formal))
    model.functions.append(helper.make_function("own", "Block", inputs, [end], body, opsets, attributes=["epsilon"]))
    model.opset_import.append(helper.make_opsetid("own", 1))
    onnx.checker.check_model(model)


def export(net, exporter, opset, more, path):
    image = torch.rand(1, 3, 32, 32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if exporter == "legacy":
            torch.onnx.export(net, (image,), path, dynamo=False, opset_version=opset, **more)
        else:
            torch.onnx.export(net, (image,), path, dynamo=True, opset_version=opset, verbose=False, external_data=False)
    model = onnx.load(path)
    # What only describes: names of source files, stacks and shapes, most of the size.
    del model.graph.value_info[:]
    model.graph.doc_string = ""
    for node in model.graph.node:
        node.doc_string = ""
        scopes = [p for p in node.metadata_props if p.key == "pkg.torch.onnx.name_scopes"]
        del node.metadata_props[:]
        node.metadata_props.extend(scopes)
    del model.metadata_props[:]
    if path.stem == "functions":
        as_function(model, ["blocks.0", "blocks.1"])
    outside = path.stem == "external"
    location = path.name + ".data"
    onnx.save(model, path, save_as_external_data=outside, location=location, size_threshold=64)


def image(stream):
    values = torch.from_numpy(generated_weights.uniform(stream, 3 * 32 * 32)).reshape(1, 3, 32, 32)
    return 0.5 + 0.48 * values


def gradient(net, x):
    x = x.clone().requires_grad_()
    feature = net(x).flatten()
    cotangent = torch.from_numpy(generated_weights.uniform("cotangent", feature.numel())).to(feature.dtype)
    return feature.detach(), torch.autograd.grad(feature @ cotangent, x)[0].flatten()


def write(name):
    network, exporter, opset, more, layers = CASES[name]
    torch.manual_seed(0)
    net = network()
    enliven(net)
    net.eval()
    path = FIXTURES / f"{name}.onnx"
    export(net, exporter, opset, more, path)
    if missing := NEEDED.get(name, set()) - {node.op_type for node in onnx.load(path, load_external_data=False).graph.node}:
        raise RuntimeError(f"{name}: the exporter wrote it without {missing}")
    streams = ["input"] + [f"input.{i}" for i in range(1, 100)]
    for stream in streams:
        _, rounded = gradient(net.float(), image(stream))
        feature, exact = gradient(net.double(), image(stream).double())
        if relative(rounded.double().numpy(), exact.numpy()) < 3e-6:
            break
    else:
        raise RuntimeError(f"{name}: every image has a unit on a kink")
    read = {}
    for layer in layers:
        net.get_submodule(layer).register_forward_hook(lambda m, i, o, layer=layer: read.update({layer: o.detach()}))
    net(image(stream).double())
    case = {
        "script": "reference/onnx_fixtures.py",
        "input": stream,
        "centre": 0.5,
        "scale": 0.48,
        "feature": feature.tolist(),
        "gradient_norm": exact.norm().item(),
        # every fifth value, which goes through all rows, columns and channels
        "gradient": [float(f"{g:.9g}") for g in exact[::5].tolist()],
        # mean over pixels or tokens
        "layers": {k: v.mean((2, 3) if v.dim() == 4 else 1)[0].tolist() for k, v in read.items()},
    }
    for data in FIXTURES.glob("*.data"):
        data.chmod(0o644)
    path.with_suffix(".json").write_text(json.dumps(case) + "\n")
    print(f"{name}: {path.stat().st_size} bytes, {feature.numel()} features, {stream}")


if __name__ == "__main__":
    FIXTURES.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for case in sys.argv[1:] or CASES:
        write(case)
