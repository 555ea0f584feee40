"""Reads adapters that `export` wrote with PEFT, checks what it makes of them, and has PEFT write them anew.

    pip install torch transformers peft safetensors
    python checks/adapters/peft_reads.py BASE ADAPTER OUT

BASE is the folder of a Qwen3 or Llama, also of one that was turned into a denoiser; OUT is made by PEFT, and is to be
loaded with `--adapter OUT`.
"""

import json
import sys
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM


def network(base: Path):
    config = json.loads((base / "config.json").read_text())
    kind = config.pop("model_type").lower()
    of = {"qwen3": (Qwen3Config, Qwen3ForCausalLM), "llama": (LlamaConfig, LlamaForCausalLM)}
    made = [classes for name, classes in of.items() if name in kind]
    if not made:
        sys.exit(f"{base} is a {kind}: this check knows Qwen3 and Llama")
    config.pop("architectures", None)
    model = made[0][1](made[0][0](**config)).float()
    missing, unexpected = model.load_state_dict(load_file(base / "model.safetensors"), strict=False)
    assert not unexpected and all("lm_head" in name for name in missing), (missing, unexpected)
    return model


def main(base: Path, adapter: Path, out: Path):
    written = load_file(adapter / "adapter_model.safetensors")
    model = PeftModel.from_pretrained(network(base), adapter)
    read = {name.replace(".default.", "."): value for name, value in model.state_dict().items() if "lora_" in name}
    assert read.keys() == written.keys(), read.keys() ^ written.keys()
    assert all(torch.equal(read[name], written[name]) for name in written)
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
    assert 2 * adapted == len(written) and worst < 1e-6, (adapted, worst)
    print(f"{adapted} projections adapted, merged weights within {worst:.1e} of W + (alpha / r) B A")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
