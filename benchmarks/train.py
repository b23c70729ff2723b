"""Seconds per 1,000 images of a training step, beside the plain loop that people write.

    python benchmarks/train.py

Ours and the plain loop (float32, NCHW, albumentations in a DataLoader) take turns in this one process, ROUNDS times; a ratio is the
median of the rounds' ratios. The overhead is the time of the steps of one `Learner.fit` over bare forwards, backwards and optimiser steps
of the same kind, which take turns with them: LONG of each, EVERY at a time, so that a machine whose speed wanders slows both alike (of 70
each on a shared machine, two bare loops were seen to differ by 3 %). A run's beginning and end, which a real run has once, are not
counted. How fast the machine multiplies matrices is measured beside: a step that did its arithmetic at that rate and nothing else would
be `most` times as fast as the plain loop. Where the probe chose a way to convolve of its own (strips or Winograd's, see 01d), torch's
usual one takes its turns, too, and how many times as fast that way makes the step is kept under its name. With a GPU, whole runs of 24
epochs over 50,000 images (the shipped 2,000, repeated) are timed too, compiling apart.
"""
import json, statistics, sys, time
from dataclasses import replace
from pathlib import Path
import numpy as np, torch, torch.nn.functional as F
from torch._dynamo.utils import counters
from torch.utils.flop_counter import FlopCounterMode
from augment import PerImage
from eva_cam.compute import choose_compute, hardware_name
from eva_cam.data import Batches, Data, ImageSet, load_data
from eva_cam.learner import Learner
from eva_cam.models import build_model
from eva_cam.optim import make_opt
from eva_cam.recipes import RECIPES
from eva_cam.train import train_recipe

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
ROUNDS, BS, STEPS, LONG, EVERY, SIDE = (5, 512, 2, 500, 50, 8192) if DEVICE == 'cuda' else (5, 128, 2, 400, 1, 2048)  # a GPU needs more at once, or it is its launches that are timed
RECIPE = RECIPES['eva6_custom_onecycle']
GOALS = {'custom_resnet': 2.2, 'resnet18': 2.5}  # where bfloat16 is native; NEVER_BELOW elsewhere
NEVER_BELOW, OVERHEAD = 1.25, 0.02
sample = load_data('sample')

def now():
    if DEVICE == 'cuda': torch.cuda.synchronize()
    return time.perf_counter()

def plain_loop(arch):
    "A function that takes STEPS steps of the plain loop and gives its seconds."
    model = build_model(arch).to(DEVICE)
    opt = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    loader = torch.utils.data.DataLoader(PerImage(sample.train, RECIPE.pipeline), BS, shuffle=True, drop_last=True)
    def run():
        start = now()
        for _, (xb, yb) in zip(range(STEPS), loader):
            loss = F.cross_entropy(model(xb.to(DEVICE)), yb.to(DEVICE))
            opt.zero_grad(); loss.backward(); opt.step()
        return now() - start
    return run

def our_learner(arch, compute=None):
    model = build_model(arch)
    train = Batches(sample.train, BS, RECIPE.pipeline, shuffle=True, drop_last=True, device=DEVICE)
    compute = compute or choose_compute(model, train.batch(0, 0)[0].cpu(), DEVICE)
    return Learner(model, train, make_opt(model, dict(RECIPE.opt, lr=0.01)), epochs=1000, compute=compute)

def our_loop(learn):
    "A function that takes STEPS steps of `Learner.fit` and gives its seconds."
    def run():
        start = now(); learn.fit(STEPS); return now() - start
    return run

def bare_loop(arch, compute):
    "A function that takes EVERY bare steps with ready batches and gives its seconds."
    model = compute.place(build_model(arch)); model.train()
    opt = make_opt(model, dict(RECIPE.opt, lr=0.01))
    batches = Batches(sample.train, BS, RECIPE.pipeline, shuffle=True, drop_last=True, device=DEVICE)
    ready = [(compute.images(x), y.to(DEVICE)) for x, y in (batches.batch(*divmod(i, len(batches))) for i in range(EVERY))]
    def run():
        start = now()
        for xb, yb in ready:
            with compute.casting(): out = model(xb)
            F.cross_entropy(out.float(), yb).backward()
            opt.step(); opt.zero_grad()
        return now() - start
    return run

class Beside:
    "Takes as many bare steps after each EVERY of the learner's, and keeps the seconds of both."
    def __init__(self, bare): self.bare, self.pairs = bare, []
    def before_fit(self, learn): self.clock = now()
    def after_step(self, learn):
        if learn.step % EVERY: return
        ours = now() - self.clock
        self.pairs.append((ours, self.bare())); self.clock = now()

def turns(*runs):
    "Seconds of each function, ROUNDS times in turn, after one round that is not counted; the order changes every round."
    for r in runs: r()
    out = [[] for _ in runs]
    for i in range(ROUNDS):
        for k in (range(len(runs)) if i % 2 else reversed(range(len(runs)))): out[k].append(runs[k]())
    return out

def overhead(arch='custom_resnet'):
    "Seconds of the learner's steps over those of bare steps, less one: what batches, rates, sums and checks cost. And how many pairs, and the ratios' middle half."
    learn = our_learner(arch)
    learn.cbs.append(beside := Beside(bare_loop(arch, learn.compute)))
    learn.fit(2 * EVERY); beside.pairs.clear()  # the first ones set things up
    learn.fit(LONG)
    ours, bare = zip(*beside.pairs)
    return sum(ours) / sum(bare) - 1, len(ours), statistics.quantiles((o / b - 1 for o, b in beside.pairs), n=4)[::2]

def products(n=SIDE):
    "Matrix products in GFLOP/s, float32 and bfloat16, the best of ROUNDS."
    out = {}
    for dtype in (torch.float32, torch.bfloat16, *[torch.float16][:DEVICE == 'cuda']):
        a, best = torch.randn(n, n, device=DEVICE).to(dtype), 0
        for _ in range(ROUNDS + 1):
            start = now(); a @ a; best = max(best, 2 * n**3 / (now() - start) / 1e9)
        out[str(dtype).removeprefix('torch.')] = best
    return out

def arithmetic(arch):
    "FLOP of a training step on 1,000 images: forward, and backward for weights and inputs."
    with FlopCounterMode(display=False) as flops: build_model(arch)(torch.zeros(2, 3, 32, 32)).sum().backward()
    return 1000 * flops.get_total_flops() / 2

def whole_runs():
    "Whole runs on a GPU: seconds of training, compiling apart, and the accuracy of the sample's test images for interest."
    ds = sample.train
    big = Data(ImageSet(np.tile(ds.x, (25, 1, 1, 1)), np.tile(ds.y, 25), ds.classes, np.arange(50_000), '50,000 images'), sample.test)
    out = {}
    for recipe, arch, goal in (('eva6_custom_onecycle', 'custom_resnet', 10), ('eva6_custom_onecycle', 'resnet18', 18), ('fast', 'fast_net', 2)):
        kw = dict(device='cuda', progress=False, eval_every=1000, compile='inductor', arch=arch)
        train_recipe(recipe, big, **kw)  # the first run compiles
        graphs = counters['stats']['unique_graphs']
        out[f'{arch}, {RECIPES[recipe].epochs} epochs of 50,000 images (s)'] = train_recipe(recipe, big, **kw).seconds, goal
        if counters['stats']['unique_graphs'] > graphs: print(f'{arch}: the timed run compiled, too')
    return out

def main():
    measures, native = [], DEVICE == 'cuda' or 'avx512_bf16' in Path('/proc/cpuinfo').read_text() if Path('/proc/cpuinfo').exists() else False
    gflops, short = products(), False
    print('matrix products: ' + ', '.join(f'{k} {v:.0f} GFLOP/s' for k, v in gflops.items()))
    for arch, goal in GOALS.items():
        learn = our_learner(arch)
        runs = [plain_loop(arch), our_loop(learn)]
        if learn.compute.conv != 'usual': runs.append(our_loop(our_learner(arch, replace(learn.compute, conv='usual'))))
        plain, ours, *usual = turns(*runs)
        way, gain = learn.compute.conv, statistics.median(u / o for u, o in zip(*usual, ours)) if usual else 1.
        per = 1000 / (STEPS * BS)
        ratios = [p / o for p, o in zip(plain, ours)]
        most = statistics.median(plain) * per * gflops[learn.compute.dtype] * 1e9 / arithmetic(arch)
        print(f'{arch}: plain {statistics.median(plain)*per:.2f} s, ours {statistics.median(ours)*per:.2f} s per 1,000 images ({learn.compute}); the arithmetic alone allows {most:.2f} times; convolving by {way} makes it {gain:.2f} times as fast')
        measures.append(dict(name=f'{arch}: times as fast as the plain loop', value=statistics.median(ratios), goal=goal if native else NEVER_BELOW, higher=True, n=ROUNDS,
            spread=[min(ratios), max(ratios)], plain=statistics.median(plain)*per, ours=statistics.median(ours)*per, most=most, **{way: gain}, compute=str(learn.compute)))
    value, n, half = overhead()
    measures.append(dict(name='custom_resnet: overhead of the loop over the step', value=value, goal=OVERHEAD, higher=False, n=n, middle_half=half))
    if DEVICE == 'cuda': measures += [dict(name=k, value=v, goal=g, higher=False, n=1) for k, (v, g) in whole_runs().items()]
    for m in measures:
        m['holds'] = m['value'] >= m['goal'] if m['higher'] else m['value'] <= m['goal']; short |= not m['holds']
        print(f"{m['name']}: {m['value']:.3g} (goal {'at least' if m['higher'] else 'at most'} {m['goal']}): {'holds' if m['holds'] else 'SHORT'}")
    facts = dict(device=hardware_name(DEVICE), threads=torch.get_num_threads(), gflops=gflops, torch=torch.__version__, python=sys.version.split()[0])
    (Path(__file__).parent / 'results' / 'train.json').write_text(json.dumps(dict(measures=measures, **facts), indent=1) + '\n')
    sys.exit(short)

if __name__ == '__main__': main()
