"""Makes a model folder (config.json, model.safetensors) of a checkpoint of the reference's trainer.

python tools/convert_lightning.py mdlm.ckpt FOLDER [--raw] [--length N] [--time-conditioning]    (needs torch)

The weights are the moving average, as in the reference's evaluation; --raw takes the trained weights themselves.
Unpickling runs no code of the file: whatever is neither a tensor nor a plain container becomes an empty stand-in.
"""
import argparse, collections, json, os, pickle, re, struct, sys
import torch

PLAIN = {"dict", "list", "set", "frozenset", "tuple", "int", "float", "complex", "bool", "str", "bytes", "bytearray"}
TENSORS = {"_rebuild_tensor_v2", "_rebuild_parameter"}


class Stub:
    """Stands for an object whose class is not loaded; keeps its state, so that settings can be read."""

    def __init__(self, *args, **kwargs): self.args = args
    def __setstate__(self, state): self.state = state
    def __setitem__(self, key, value): pass
    def append(self, item): pass
    def extend(self, items): pass
    def add(self, item): pass
    def __call__(self, *args, **kwargs): return Stub(*args)


class Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        if module in ("builtins", "__builtin__") and name in PLAIN:
            return getattr(__import__("builtins"), name)
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if module == "torch._utils" and name in TENSORS:
            return getattr(torch._utils, name)
        if module == "torch" and (name == "Size" or name.endswith("Storage") or isinstance(getattr(torch, name, 0), torch.dtype)):
            return getattr(torch, name)
        if (module, name) == ("torch.storage", "UntypedStorage"):
            return torch.UntypedStorage
        return type(name, (Stub,), {"__module__": module})


class SafePickle:
    """What torch.load asks of a pickle module."""
    Unpickler = Unpickler
    load = staticmethod(lambda file, **kwargs: Unpickler(file, **kwargs).load())


def setting(node, *path):
    """A value of the settings, which OmegaConf stores as nodes with `_content` and `_val`; None if it is not there."""
    for key in (*path, None):
        while isinstance(node, Stub):
            state = getattr(node, "state", None)
            state = state if isinstance(state, dict) else {}
            node = state.get("_content", state.get("_val"))
        if key is not None:
            node = node.get(key) if isinstance(node, dict) else None
    return node


def parameter_names(blocks, diffusion):
    """The network's parameters() order, in which the moving average is stored."""
    both = lambda *names: [f"{n}.{kind}" for n in names for kind in ("weight", "bias")]
    names = ["vocab_embed.embedding"]
    names += both("sigma_map.mlp.0", "sigma_map.mlp.2") if diffusion else []
    ada = both("adaLN_modulation") if diffusion else []
    for i in range(blocks):
        block = ["norm1.weight", "attn_qkv.weight", "attn_out.weight", "norm2.weight"] + both("mlp.0", "mlp.2") + ada
        names += [f"blocks.{i}.{n}" for n in block]
    names += [f"output_layer.{n}" for n in ["norm_final.weight"] + both("linear") + ada]
    return ["backbone." + n for n in names]


def write_safetensors(path, tensors):
    header, data, end = {"__metadata__": {"format": "pt"}}, [], 0
    for name, tensor in tensors.items():
        data.append(tensor.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [end, end + len(data[-1])]}
        end += len(data[-1])
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path + ".partial", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.writelines(data)
    os.replace(path + ".partial", path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("folder")
    parser.add_argument("--raw", action="store_true", help="the trained weights instead of their moving average")
    parser.add_argument("--length", type=int, help="sequence length, if the checkpoint's settings cannot be read")
    parser.add_argument("--time-conditioning", action="store_true", help="the same for time conditioning")
    args = parser.parse_args()

    checkpoint = torch.load(args.checkpoint, map_location="cpu", pickle_module=SafePickle, weights_only=False)
    state = checkpoint["state_dict"]
    blocks = 1 + max((int(m[1]) for m in (re.match(r"backbone\.blocks\.(\d+)\.", k) for k in state) if m), default=-1)
    diffusion = any(k.startswith("backbone.sigma_map.") for k in state)
    names, inv_freq = parameter_names(blocks, diffusion), "backbone.rotary_emb.inv_freq"
    found = {k for k in state if k.startswith("backbone.") and k != inv_freq}
    if found != set(names) or inv_freq not in state:
        sys.exit(f"not a model of this kind: missing {sorted(set(names) - found)[:8]}, unexpected {sorted(found - set(names))[:8]}")
    weights = [state[n] for n in names]
    if not args.raw:
        if not checkpoint.get("ema"):
            sys.exit("the checkpoint holds no moving average; --raw takes the trained weights")
        # The noise schedule's parameters, if it has any, come after the network's.
        average = checkpoint["ema"]["shadow_params"][:len(names)]
        shapes = [tuple(t.shape) for t in average]
        if shapes != [tuple(t.shape) for t in weights]:
            sys.exit("the moving average does not have the shapes of the network's parameters")
        weights = average
    tensors = dict(zip(names, weights)) | {inv_freq: state[inv_freq]}

    config = checkpoint.get("hyper_parameters", {}).get("config")
    length = args.length or setting(config, "model", "length")
    if length is None:
        sys.exit("the checkpoint's settings cannot be read: give --length")
    vocab, hidden = state[names[0]].shape
    dropout = setting(config, "model", "dropout")
    published = {
        "model_type": "mdlm" if diffusion else "ar",
        "vocab_size": vocab, "hidden_dim": hidden, "n_blocks": blocks, "model_length": length,
        "n_heads": hidden // (2 * state[inv_freq].numel()),
        "cond_dim": state["backbone.sigma_map.mlp.0.bias"].numel() if diffusion else 128,
        "dropout": 0.1 if dropout is None else dropout,
        "time_conditioning": args.time_conditioning or bool(setting(config, "time_conditioning")),
        "torch_dtype": "float32",
    }
    # The mask is the last id, except where the tokenizer has one of its own.
    mask = {"bert-base-uncased": 103, "text8": 4}.get(setting(config, "data", "tokenizer_name_or_path"))
    published |= {} if mask is None else {"mask_index": mask}
    if diffusion:
        trained = [("parameterization",), ("T",), ("subs_masking",), ("training", "importance_sampling"), ("training", "change_of_variables")]
        schedule = [("noise", "type"), ("noise", "sigma_min"), ("noise", "sigma_max")]
        for section, paths in (("objective", trained), ("noise", schedule)):
            found = {path[-1]: setting(config, *path) for path in paths}
            published[section] = {key: value for key, value in found.items() if value is not None}
    os.makedirs(args.folder, exist_ok=True)
    write_safetensors(os.path.join(args.folder, "model.safetensors"), tensors)
    with open(os.path.join(args.folder, "config.json"), "w") as file:
        json.dump(published, file, indent=2)
    print(f"{len(tensors)} tensors, {'trained weights' if args.raw else 'moving average'}, {published}")


main()
