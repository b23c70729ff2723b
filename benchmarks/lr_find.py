"""How near the suggested learning rate comes to the best one, beside fastai and pytorch-lr-finder.

    python benchmarks/lr_find.py
    python benchmarks/lr_find.py --choose   # what the rule was chosen on; writes results/lr_find_choice.json

Each of NETS, from each of SEEDS, is trained by One-Cycle up to each of RATES, EPOCHS epochs long, on 1,600 of the shipped training
images, cropped and flipped; ORDERS times, each in another order of the images, for a single training judges a rate by luck, too. The
mean held-out loss has a flat bottom over the rate, so the best rate is its centre: the mean of the rates in log, weighted by
exp(-loss / 0.05). Where the outermost rate has a part in it, further ones are tried, twice or half as high, until none has. Then
each finder is asked, with its own defaults, about the same fresh network, images and optimiser. A suggestion counts when it lies
within a factor of 2 of the best rate. Our rule was fitted to other widths of the same kinds of network from other seeds, CHOICE and
CHOICE_SEEDS, trained in the same way.

fastai wants another fastcore than nbdev 2 does, so the benchmark makes an environment of its own for it, over this one, in
benchmarks/.lr_find, and goes on in there; nothing is installed where you called it.
"""
import argparse, contextlib, importlib.util, io, json, math, os, site, statistics, subprocess, sys, time, venv, warnings
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
PEERS = ['fastai==2.8.12', 'torch-lr-finder==0.2.2']

def inside():
    "Go on in an environment that has the peers, made where there is none."
    env = HERE / '.lr_find'
    py = env / 'bin/python'
    if not (env / 'ready').exists():
        venv.create(env, with_pip=True, clear=True)
        here = next((env / 'lib').glob('python*')) / 'site-packages'
        (here / 'outer.pth').write_text(''.join(f'import site; site.addsitedir({p!r})\n' for p in site.getsitepackages()))
        subprocess.run([py, '-m', 'pip', 'install', '-q', '--disable-pip-version-check', *PEERS], check=True)
        (env / 'ready').touch()
    os.execv(py, [str(py), *sys.argv])

if __name__ == '__main__':
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--choose', action='store_true', help='train the networks that the rule is chosen on, instead of judging it')
    asked = ap.parse_args()
    if not asked.choose and any(importlib.util.find_spec(m) is None for m in ('fastai', 'torch_lr_finder')): inside()

import numpy as np, torch, torch.nn.functional as F
from eva_cam.compute import Compute, hardware_name
from eva_cam.data import Batches, Pipeline, load_data
from eva_cam.learner import Learner
from eva_cam.lr_find import RULES, SWEEPS, fallen
from eva_cam.models import build_model
from eva_cam.optim import make_opt

NETS = {'custom_resnet': dict(width=8), 'custom_resnet, group norm': dict(width=8, norm='group'), 'resnet18': dict(width=5),
        'fast_net, narrow': dict(widths=(12, 24, 24)), 'fast_net, wide': dict(widths=(20, 40, 40))}
SEEDS = 20, 23  # others up to 22 were looked at while this rule and earlier ones were made
CHOICE = {'custom_resnet, width 4': dict(width=4), 'custom_resnet, width 6': dict(width=6), 'custom_resnet, width 10': dict(width=10),
          'custom_resnet, width 6, group norm': dict(width=6, norm='group'), 'custom_resnet, width 10, group norm': dict(width=10, norm='group'),
          'custom_resnet, width 6, instance norm': dict(width=6, norm='instance'),
          'resnet18, width 4': dict(width=4), 'resnet18, width 6': dict(width=6), 'resnet18, width 6, group norm': dict(width=6, norm='group'),
          'fast_net, 8': dict(widths=(8, 16, 16)), 'fast_net, 16': dict(widths=(16, 32, 32)), 'fast_net, 24': dict(widths=(24, 48, 48))}
CHOICE_SEEDS = 4, 5
ORDERS = 3  # with one, the best rate of resnet18 was 0.15 from seed 2 and 0.027 from seed 3
RATES = [0.005 * 2**k for k in range(9)]  # to 1.28; more where these do not enclose the best
EDGE = 0.02  # what an outermost rate may count in the centre
EPOCHS, BS, FACTOR = 8, 64, 2
PIPELINE = Pipeline(pad=4, crop=32, flip=0.5)
ENOUGH, COST = 0.9, 0.01  # share of the pairs; of the images of 24 epochs of CIFAR-10
sample = load_data('sample').train
order = np.random.default_rng(0).permutation(len(sample))
train, held = sample.subset(order[400:]), sample.subset(order[:400])
stats = train.stats()

def learner(net, seed, lr, order=0, **kw):
    "A fresh network of that name and seed, its batches in one of their orders, and its optimiser."
    torch.manual_seed(seed)
    model = build_model(net.partition(',')[0], **(NETS | CHOICE)[net])
    batches = Batches(train, BS, PIPELINE, *stats, shuffle=True, drop_last=True, seed=seed + 1000 * order)
    return Learner(model, batches, make_opt(model, dict(kind='sgd', lr=lr, momentum=0.9, weight_decay=5e-4)), compute=Compute('cpu', 'float32', True, 1), seed=seed, **kw)

def held_loss(net, seed, lr, order):
    "Loss on the held-out images after One-Cycle up to `lr`; that of guessing where the network broke."
    learn = learner(net, seed, lr, order, sched=dict(kind='one_cycle', peak=EPOCHS / 4), epochs=EPOCHS)
    try: learn.fit()
    except ValueError: return math.log(10)
    except SystemExit: os._exit(1)  # SIGTERM; and the pool with it
    if learn.stopped: os._exit(1)
    return min(learn.evaluate(Batches(held, 400, None, *stats))[0], math.log(10))

def shares(losses):
    "What each rate counts in the centre, given its mean loss: in proportion to exp(-loss / 0.05), one in all."
    w = np.exp((min(losses) - np.array(losses)) / 0.05)
    return w / w.sum()

def best_rate(net, seed):
    "The centre of the rates, and the loss of each training, by its rate; RATES and as many more on either side as it takes until the outermost count for nothing."
    trained = {lr: [held_loss(net, seed, lr, order) for order in range(ORDERS)] for lr in RATES}
    while True:
        trained = dict(sorted(trained.items()))
        counts, lrs = shares([statistics.mean(t) for t in trained.values()]), list(trained)
        more = [lr for lr, count in ((lrs[0] / 2, counts[0]), (lrs[-1] * 2, counts[-1])) if count > EDGE]
        if not more: return dict(best=float(np.exp(np.average(np.log(lrs), weights=counts))), held_loss={str(lr): t for lr, t in trained.items()})
        trained |= {lr: [held_loss(net, seed, lr, order) for order in range(ORDERS)] for lr in more}

def ours(net, seed):
    "Each of our rules, the one that suggests, and what they cost as a share of 24 epochs of CIFAR-10."
    found = learner(net, seed, 0.1).lr_find()
    return {f'eva_cam {r}': found.read(r) for r in RULES}, found.rule, found.images / (24 * 50_000)

def tensors():
    "Training images as the networks see them, five epochs of them."
    seen = Batches(train, 400, PIPELINE, *stats, seed=0)
    return [torch.cat(t) for t in zip(*[seen.batch(epoch, i) for epoch in range(5) for i in range(len(seen))])]

def fastai(net, seed):
    "fastai's suggestions with its defaults: 100 steps from 1e-7 to 10."
    from fastai.callback.schedule import minimum, slide, steep, valley
    from fastai.data.core import DataLoaders
    from fastai.data.load import DataLoader
    from fastai.learner import Learner as FastLearner
    from fastai.optimizer import OptimWrapper
    data = list(zip(*tensors()))
    dls = DataLoaders(DataLoader(data, bs=BS, shuffle=True, drop_last=True, num_workers=0), DataLoader(data, bs=BS, num_workers=0))
    learn = FastLearner(dls, learner(net, seed, 0.1).model, F.cross_entropy, opt_func=lambda p, **kw: OptimWrapper(p, torch.optim.SGD, momentum=0.9, weight_decay=5e-4, **kw), path=HERE / '.lr_find')
    with learn.no_bar(), learn.no_logging(): found = learn.lr_find(suggest_funcs=(minimum, steep, valley, slide), show_plot=False)
    return {f'fastai {k}': float(v) for k, v in zip(('minimum/10', 'steep', 'valley', 'slide'), found)}

def torch_lr_finder(net, seed):
    "pytorch-lr-finder's suggestion with its defaults, over the range of its README: 100 steps from 1e-7 to 100."
    import matplotlib; matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    from torch_lr_finder import LRFinder
    model = learner(net, seed, 0.1).model
    finder = LRFinder(model, torch.optim.SGD(model.parameters(), lr=1e-7, momentum=0.9, weight_decay=5e-4), torch.nn.CrossEntropyLoss(), device='cpu')
    torch.manual_seed(seed)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*tensors()), BS, shuffle=True, drop_last=True)
    finder.range_test(loader, end_lr=100, num_iter=100)
    _, lr = finder.plot(ax=plt.figure().add_subplot())
    plt.close('all'); finder.reset()
    return {'pytorch-lr-finder': float(lr)}

def pair(net, seed):
    "The best rate of a network and a seed, and what everybody says of it; in a process of its own, on one thread."
    warnings.filterwarnings('ignore'); torch.set_num_threads(1)
    said, rule, cost = ours(net, seed)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()): said |= fastai(net, seed) | torch_lr_finder(net, seed)
    return dict(network=net, seed=seed, rule=rule, **best_rate(net, seed), said=said, cost=cost)

def candidate(net, seed):
    "The best rate of a network and a seed, and for three findings where the loss has come four fifths of its way down, and where it is lowest."
    warnings.filterwarnings('ignore'); torch.set_num_threads(1)
    sweeps = learner(net, seed, 0.1).lr_find(sweeps=3 * SWEEPS)
    findings = [replace(sweeps, losses=sweeps.losses[k:k + SWEEPS]) for k in range(0, 3 * SWEEPS, SWEEPS)]
    return dict(network=net, seed=seed, **best_rate(net, seed), fallen=[f.read(fallen) for f in findings], minimum=[10 * f.read('minimum/10') for f in findings])

def choose():
    "Train the networks that the rule is chosen on, and fit it."
    networks = []
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for n in pool.map(candidate, *zip(*[(n, s) for n in CHOICE for s in CHOICE_SEEDS])):
            networks.append(n)
            print(f"{n['network']}, seed {n['seed']}: best {n['best']:.3f}, four fifths down at " + ', '.join(f'{r:.2g}' for r in n['fallen']), flush=True)
    best, low = np.log([[n['best']] * 3 for n in networks]), np.log([n['fallen'] for n in networks])
    slope, height = np.polyfit(low.ravel(), best.ravel(), 1)
    print(f'the line through them, in log: slope {slope:.2f}, scale {np.exp(height):.2f}')
    write('lr_find_choice', networks=networks, seeds=CHOICE_SEEDS)

def write(name, **result):
    "Keep a result, with where it was made."
    facts = dict(device=hardware_name(), orders=ORDERS, torch=torch.__version__, python=sys.version.split()[0])
    (HERE / 'results' / f'{name}.json').write_text(json.dumps(result | facts, indent=1) + '\n')

def main():
    pairs, start = [], time.time()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for p in pool.map(pair, *zip(*[(n, s) for n in NETS for s in SEEDS])):
            pairs.append(p)
            print(f"{p['network']}, seed {p['seed']}: best {p['best']:.3f}; " + ', '.join(f'{k} {v:.2g}' for k, v in p['said'].items()) + f' [{time.time() - start:.0f} s]', flush=True)
    share = {k: statistics.mean(abs(math.log(p['said'][k] / p['best'])) <= math.log(FACTOR) for p in pairs) for k in pairs[0]['said']}
    for k, v in share.items(): print(f'{k}: within a factor of {FACTOR} in {v*len(pairs):.0f} of {len(pairs)}')
    measures = [dict(name=f'suggestions ({pairs[0]["rule"]}) within a factor of {FACTOR} of the best rate', value=share[f'eva_cam {pairs[0]["rule"]}'], goal=ENOUGH, higher=True, n=len(pairs)),
                dict(name='cost as a share of 24 epochs of CIFAR-10', value=max(p['cost'] for p in pairs), goal=COST, higher=False, n=len(pairs))]
    short = False
    for m in measures:
        m['holds'] = m['value'] >= m['goal'] if m['higher'] else m['value'] < m['goal']; short |= not m['holds']
        print(f"{m['name']}: {m['value']:.3g} (goal {'at least' if m['higher'] else 'below'} {m['goal']}): {'holds' if m['holds'] else 'SHORT'}")
    write('lr_find', measures=measures, share=share, pairs=pairs, seeds=SEEDS, peers=PEERS)
    sys.exit(short)

if __name__ == '__main__':
    try: choose() if asked.choose else main()
    except (KeyboardInterrupt, BrokenProcessPool): sys.exit('lr_find.py: stopped by hand, nothing is written')
