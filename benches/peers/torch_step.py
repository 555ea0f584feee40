"""The training step of `bench step` in PyTorch: the same network, AdamW, moving average, clipping, and the loss of masked
tokens. One JSON object on stdout. Needs torch.
"""
import argparse
import json
import statistics
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

parser = argparse.ArgumentParser()
for name, default in dict(hidden=256, blocks=4, heads=4, cond=128, length=128, batch=16, vocab=28, threads=0).items():
    parser.add_argument(f"--{name}", type=int, default=default)
parser.add_argument("--seconds", type=float, default=2.0)
parser.add_argument("--device", default="cpu")
parser.add_argument("--precision", choices=["f32", "tf32", "bf16"], default="f32")
parser.add_argument("--compile", action="store_true")
a = parser.parse_args()

torch.manual_seed(0)
if a.threads:
    torch.set_num_threads(a.threads)
torch.backends.cuda.matmul.allow_tf32 = a.precision == "tf32"
torch.set_default_device(a.device)
D, H, L, B, V = a.hidden, a.heads, a.length, a.batch, a.vocab


def turn(x, cos, sin):
    u, v = x.chunk(2, -1)
    return torch.cat([u * cos - v * sin, v * cos + u * sin], -1)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.Parameter(torch.ones(D)), nn.Parameter(torch.ones(D))
        self.qkv, self.out = nn.Linear(D, 3 * D, bias=False), nn.Linear(D, D, bias=False)
        self.up, self.down = nn.Linear(D, 4 * D), nn.Linear(4 * D, D)
        self.modulation = nn.Linear(a.cond, 6 * D)

    def forward(self, x, c, cos, sin):
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(c)[:, None].chunk(6, 2)
        h = F.layer_norm(x, [D]) * self.norm1 * (1 + scale1) + shift1
        q, k, v = self.qkv(h).view(B, L, 3, H, D // H).permute(2, 0, 3, 1, 4)
        o = F.scaled_dot_product_attention(turn(q, cos, sin), turn(k, cos, sin), v)
        x = x + gate1 * self.out(o.transpose(1, 2).reshape(B, L, D))
        h = F.layer_norm(x, [D]) * self.norm2 * (1 + scale2) + shift2
        return x + gate2 * self.down(F.gelu(self.up(h), approximate="tanh"))


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(V, D)
        self.blocks = nn.ModuleList(Block() for _ in range(a.blocks))
        self.time0, self.time2 = nn.Linear(256, a.cond), nn.Linear(a.cond, a.cond)
        self.norm, self.head = nn.Parameter(torch.ones(D)), nn.Linear(D, V)
        self.modulation = nn.Linear(a.cond, 2 * D)
        angles = torch.outer(torch.arange(L).float(), 10000 ** (-torch.arange(0, D // H, 2) / (D // H)))
        self.cos, self.sin = angles.cos(), angles.sin()

    def forward(self, xt, time):
        c = F.silu(self.time2(F.silu(self.time0(time))))
        x = self.embedding(xt)
        for block in self.blocks:
            x = block(x, c, self.cos, self.sin)
        shift, scale = self.modulation(c)[:, None].chunk(2, 2)
        return self.head(F.layer_norm(x, [D]) * self.norm * (1 + scale) + shift)


network = Network()
adamw = torch.optim.AdamW(network.parameters(), lr=1e-5, weight_decay=0)
average = [p.detach().clone() for p in network.parameters()]
xt, x0 = torch.randint(0, V, (B, L)), torch.randint(0, V - 1, (B, L))
masked, weights = torch.rand(B, L) < 0.5, torch.rand(B, 1)
conditioning = torch.cat([torch.ones(B, 128), torch.zeros(B, 128)], 1)
forward = torch.compile(network) if a.compile else network


def step():
    with torch.autocast(a.device, torch.bfloat16, enabled=a.precision == "bf16"):
        logits = forward(xt, conditioning)
    logp = F.log_softmax(logits[..., : V - 1].float(), -1)
    loss = (-logp.gather(-1, x0[..., None])[..., 0] * masked * weights).mean()
    adamw.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    adamw.step()
    with torch.no_grad():
        torch._foreach_lerp_(average, list(network.parameters()), 1e-4)
    return loss.item()


for _ in range(3):
    step()
times = []
begin = time.perf_counter()
while len(times) < 5 or time.perf_counter() - begin < a.seconds:
    start = time.perf_counter()
    step()
    times.append(1e3 * (time.perf_counter() - start))
name = f"torch {torch.__version__} {a.device} {a.precision}" + (" compiled" if a.compile else "")
print(json.dumps({"name": name, "median_ms": statistics.median(times), "min_ms": min(times)}))
