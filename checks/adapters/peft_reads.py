"""Reads adapters that `export` wrote with PEFT, checks what it makes of them, and has PEFT write them anew.

    python checks/adapters/peft_reads.py BASE ADAPTER OUT

BASE is a folder with the model's weights in one file; OUT is made by PEFT, and is to be loaded with `--adapter OUT`.
PEFT adapts any module, so the model here is its projections alone.
"""

import json
import sys
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import nn


class Part(nn.Module):
    def forward(self, x):
        return x


def network(base: Path):
    """A module for each part of the tensors' names, a linear layer for each matrix."""
    model = Part()
    for name, weight in load_file(base / "model.safetensors").items():
        if weight.dim() != 2:
            continue
        *parts, last, _ = name.split(".")
        at = model
        for part in parts:
            if not hasattr(at, part):
                at.add_module(part, Part())
            at = getattr(at, part)
        layer = nn.Linear(*reversed(weight.shape), bias=False)
        layer.weight.data.copy_(weight)
        at.add_module(last, layer)
    return model


def main(base: Path, adapter: Path, out: Path):
    written = load_file(adapter / "adapter_model.safetensors")
    model = PeftModel.from_pretrained(network(base), adapter)
    read = {name.replace(".default.", "."): value for name, value in model.state_dict().items() if "lora_" in name}
    assert read.keys() == written.keys(), read.keys() ^ written.keys()
    assert all(torch.equal(read[name], written[name]) for name in written)
    assert any(value.any() for name, value in written.items() if "lora_B" in name), "nothing has been learnt"
    model.save_pretrained(out)
    again = load_file(out / "adapter_model.safetensors")
    assert again.keys() == written.keys() and all(torch.equal(again[name], written[name]) for name in written)

    plain = network(base).state_dict()
    merged = model.merge_and_unload().state_dict()
    config = json.loads((adapter / "adapter_config.json").read_text())
    scale, adapted, worst = config["lora_alpha"] / config["r"], 0, 0.0
    for name, weight in plain.items():
        low = "base_model.model." + name.removesuffix("weight")
        product = torch.zeros_like(weight)
        if low + "lora_A.weight" in written:
            product = scale * written[low + "lora_B.weight"] @ written[low + "lora_A.weight"]
            adapted += 1
        worst = max(worst, (merged[name] - weight - product).abs().max().item())
    assert adapted > 0 and 2 * adapted == len(written) and worst < 1e-6, (adapted, worst)
    print(f"{adapted} projections adapted, merged weights within {worst:.1e} of W + (alpha / r) B A")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
