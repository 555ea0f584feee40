"""The training step of `bench step` at its default size in PyTorch, for a comparison on one machine.

python tools/bench_torch.py SECONDS    (needs torch; two threads)
"""
import statistics, sys, time
import torch
import torch.nn as nn, torch.nn.functional as F
torch.manual_seed(0); torch.set_num_threads(2)
D,NB,H,C,L,B,V=256,4,4,128,128,16,28
def rot(x,cos,sin):
    a,b=x.chunk(2,-1); return torch.cat([a*cos-b*sin,b*cos+a*sin],-1)
class Block(nn.Module):
    def __init__(s):
        super().__init__(); s.n1=nn.Parameter(torch.ones(D)); s.n2=nn.Parameter(torch.ones(D))
        s.qkv=nn.Linear(D,3*D,bias=False); s.out=nn.Linear(D,D,bias=False)
        s.m0=nn.Linear(D,4*D); s.m2=nn.Linear(4*D,D); s.ada=nn.Linear(C,6*D)
    def forward(s,x,c,cos,sin):
        sh1,sc1,g1,sh2,sc2,g2=s.ada(c)[:,None].chunk(6,2)
        h=F.layer_norm(x,[D])*s.n1*(1+sc1)+sh1
        q,k,v=s.qkv(h).view(B,L,3,H,D//H).permute(2,0,3,1,4)
        a=F.scaled_dot_product_attention(rot(q,cos,sin),rot(k,cos,sin),v).transpose(1,2).reshape(B,L,D)
        x=x+g1*s.out(a)
        h=F.layer_norm(x,[D])*s.n2*(1+sc2)+sh2
        return x+g2*s.m2(F.gelu(s.m0(h),approximate='tanh'))
class M(nn.Module):
    def __init__(s):
        super().__init__(); s.e=nn.Embedding(V,D); s.b=nn.ModuleList([Block() for _ in range(NB)])
        s.t0=nn.Linear(256,C); s.t2=nn.Linear(C,C); s.nf=nn.Parameter(torch.ones(D)); s.o=nn.Linear(D,V); s.ao=nn.Linear(C,2*D)
        f=10000**(-torch.arange(0,D//H,2)/(D//H)); a=torch.outer(torch.arange(L).float(),f); s.register_buffer('cos',a.cos()); s.register_buffer('sin',a.sin())
    def forward(s,x,te):
        c=F.silu(s.t2(F.silu(s.t0(te)))); x=s.e(x)
        for b in s.b: x=b(x,c,s.cos,s.sin)
        sh,sc=s.ao(c)[:,None].chunk(2,2)
        return s.o(F.layer_norm(x,[D])*s.nf*(1+sc)+sh)
m=M(); print('params',sum(p.numel() for p in m.parameters()))
opt=torch.optim.AdamW(m.parameters(),lr=1e-5,weight_decay=0); ema=[p.detach().clone() for p in m.parameters()]
x=torch.randint(0,V,(B,L)); x0=torch.randint(0,V-1,(B,L)); te=torch.cat([torch.ones(B,128),torch.zeros(B,128)],1); mask=torch.rand(B,L)<.5; w=torch.rand(B,1)
def step():
    lp=F.log_softmax(m(x,te)[...,:V-1],-1); nll=-lp.gather(-1,x0[...,None])[...,0]*mask*w
    loss=nll.mean(); opt.zero_grad(); loss.backward(); torch.nn.utils.clip_grad_norm_(m.parameters(),1.0); opt.step()
    with torch.no_grad(): torch._foreach_lerp_(ema,list(m.parameters()),1e-4)

for _ in range(3): step()
ts=[]
t0=time.time()
while time.time()-t0<float(sys.argv[1]):
    a=time.time(); step(); ts.append(time.time()-a)
med=statistics.median(ts)*1e3
fl=3*(NB*(2*B*L*12*D*D+4*B*L*L*D)+2*B*L*D*V)
print('torch',torch.__version__,'median ms %.1f min %.1f gflops %.1f'%(med,min(ts)*1e3,fl/med/1e6))
