"""Writes fixtures/weights/: one small state dict in every layout that crates/nn/src/weights reads.

    python reference/weights.py

expected.json holds, for each tensor, its dtype, its shape and (for floating-point ones) the bits of its values
as f32, converted by torch. Every file is read back with torch.load before the script ends. The legacy layout
names its storages by memory address, so those files differ from run to run in these names, and in nothing else.

refused_*.pth would call os.system if torch.load read them with weights_only=False; they must be refused by name.

Written with torch 2.15.0, safetensors 0.8.0.
"""

import collections
import copyreg
import json
import os
import pathlib
import pickle
import types

import safetensors.torch
import torch

OUT = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "weights"


def state_dict():
    g = torch.Generator().manual_seed(20231216)

    def normal(*shape, dtype=torch.float32):
        return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)

    tied = normal(2, 3)
    state = collections.OrderedDict()
    state["conv.weight"] = torch.nn.Parameter(normal(2, 3, 2, 2))
    # Signed zero, the smallest subnormal, the largest finite number and infinity must survive conversion.
    state["half.weight"] = torch.tensor([0.1, -0.0, 6e-8, 65504.0, float("inf"), -1.5], dtype=torch.float16)
    state["brain.weight"] = torch.tensor([[0.1, -0.0], [1e-40, 3e38]], dtype=torch.bfloat16)
    # 1 + 2^-24 lies halfway between two f32 (ties to even); 1e300 overflows; 1e-42 becomes subnormal.
    state["double.weight"] = torch.tensor([1 / 3, 1 + 2.0**-24, 1 + 3 * 2.0**-24, 1e300, -1e-42], dtype=torch.float64)
    state["bn.num_batches_tracked"] = torch.tensor(1234)
    state["mask"] = torch.tensor([True, False])
    state["turned.weight"] = normal(3, 4).t()
    state["sliced.weight"] = normal(3, 4, 5).permute(2, 0, 1)[1:, :, ::2]
    state["tied.encoder"] = tied
    state["tied.decoder"] = tied
    state["tied.row"] = tied[1]
    state["scale"] = torch.tensor(2.5)
    state["empty"] = torch.zeros(0, 3)
    # torch.nn.Module.state_dict() carries this attribute, which a pickle sets with BUILD.
    state._metadata = collections.OrderedDict({"": {"version": 1}, "bn": {"version": 2}})
    return state


def expected(state):
    out = {}
    for name, tensor in state.items():
        entry = {"dtype": str(tensor.dtype).removeprefix("torch."), "shape": list(tensor.shape)}
        if tensor.is_floating_point():
            bits = tensor.detach().to(torch.float32).contiguous().view(torch.int32).flatten()
            entry["f32_bits"] = [b & 0xFFFFFFFF for b in bits.tolist()]
        out[name] = entry
    return out


def old_style():
    """A pickle module that writes what torch wrote before 0.4: _rebuild_tensor without flags, Parameter by
    NEWOBJ and BUILD, and OrderedDict from a list of pairs."""

    class Pickler(pickle.Pickler):
        def reducer_override(self, obj):
            if isinstance(obj, torch.nn.Parameter):
                return copyreg.__newobj__, (torch.nn.Parameter, obj.data, True), (True, False, collections.OrderedDict())
            if isinstance(obj, torch.Tensor):
                view = (obj._typed_storage(), obj.storage_offset(), tuple(obj.size()), obj.stride())
                return torch._utils._rebuild_tensor, view
            if isinstance(obj, collections.OrderedDict) and obj:
                return collections.OrderedDict, ([[key, value] for key, value in obj.items()],)
            return NotImplemented

    return types.SimpleNamespace(Pickler=Pickler, dump=pickle.dump, __name__="pickle")


class Evil:
    def __reduce__(self):
        return os.system, ("echo this must never run",)


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    state = state_dict()
    parallel = collections.OrderedDict((f"module.{name}", tensor) for name, tensor in state.items())
    # As training scripts save: a precision that is itself a tensor, and an optimizer with tensors of its own.
    optimizer = {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    wrapped = {"epoch": 3, "state_dict": parallel, "best_prec1": torch.tensor(91.78), "optimizer": optimizer}

    torch.save(state, OUT / "zip.pth")
    torch.save(state, OUT / "legacy.pth", _use_new_zipfile_serialization=False)
    torch.save(wrapped, OUT / "wrapped_zip.pth")
    torch.save(wrapped, OUT / "wrapped_legacy.th", _use_new_zipfile_serialization=False)
    torch.save({"model": state, "dtype": torch.float32, "seed": 2**70}, OUT / "protocol4.pth", pickle_protocol=4)
    torch.save(state, OUT / "protocol5_legacy.pth", pickle_protocol=5, _use_new_zipfile_serialization=False)
    torch.save(state, OUT / "before_0.4.pth", pickle_module=old_style(), _use_new_zipfile_serialization=False)
    torch.serialization.set_crc32_options(False)
    torch.save(state, OUT / "no_checksums.pth")
    torch.serialization.set_crc32_options(True)
    packed = {name: tensor.detach().clone().contiguous() for name, tensor in state.items()}
    safetensors.torch.save_file(packed, OUT / "plain.safetensors", metadata={"format": "pt"})
    (OUT / "expected.json").write_text(json.dumps(expected(state), indent=1) + "\n")

    for name in ["zip", "legacy", "protocol5_legacy", "before_0.4", "no_checksums"]:
        assert expected(torch.load(OUT / f"{name}.pth", weights_only=False)) == expected(state), name
    for name in ["wrapped_zip.pth", "wrapped_legacy.th"]:
        assert expected(torch.load(OUT / name)["state_dict"]) == expected(parallel), name
    assert expected(torch.load(OUT / "protocol4.pth", weights_only=False)["model"]) == expected(state)
    assert expected(safetensors.torch.load_file(OUT / "plain.safetensors")) == expected(state)

    evil = {"conv.weight": torch.zeros(2), "hook": Evil()}
    torch.save(evil, OUT / "refused_zip.pth")
    torch.save(evil, OUT / "refused_protocol4.pth", pickle_protocol=4)
    torch.save(evil, OUT / "refused_legacy.pth", _use_new_zipfile_serialization=False)
    for path in sorted(OUT.glob("refused_*")):
        try:
            torch.load(path, weights_only=True)
        except pickle.UnpicklingError:
            continue
        raise AssertionError(path)


if __name__ == "__main__":
    main()
