"""What a class activation map costs, against the least it could cost and against grad-cam and torchcam.

    pip install "eva_cam[bench]"
    python benchmarks/cam.py                    # prints the table, writes benchmarks/results/cam.json

Contenders alternate in one process, so that a ratio compares like with like on a machine whose speed drifts; torchcam and the folded
copies do so again in a second one. CPU time of all threads,
or events on a GPU; the median of the rounds. The network is the CIFAR ResNet-18 with random weights: time does not depend on them.
"""
import argparse, io, json, platform, statistics, subprocess, sys, time, warnings
from contextlib import redirect_stderr
from importlib.metadata import version
from pathlib import Path

import torch, torch.nn.functional as F
from eva_cam.anymodel import fast_copy
from eva_cam.compute import hardware_name
from eva_cam.gradcam import explain_errors, gradcam, overlay
from eva_cam.methods import ablationcam
from eva_cam.models import resnet18

MIB = 2**20

def floor(model, x, layer):
    "The least a Grad-CAM can cost: no graph up to the layer, the tail with a graph, one gradient to the activation."
    stages = [model.stem, model.layer1, model.layer2, model.layer3, model.layer4]
    cut = dict(layer3=4, layer4=5)[layer]
    with torch.no_grad():
        a = x
        for s in stages[:cut]: a = s(a)
    a.requires_grad_()
    t = a
    for s in stages[cut:]: t = s(t)
    logits = model.fc(model.pool(t).flatten(1))
    return torch.autograd.grad(logits.amax(1).sum(), a)[0]

def errors_floor(model, batches, layer):
    "The least that evaluation with both maps of its errors can cost: the tail once more for these, and two gradients to their activations."
    stages, cut = [model.stem, model.layer1, model.layer2, model.layer3, model.layer4], dict(layer3=4, layer4=5)[layer]
    bad, out = [], []
    for x, y in batches:
        with torch.no_grad():
            for s in stages[:cut]: x = s(x)
            t = x
            for s in stages[cut:]: t = s(t)
            logits = model.fc(model.pool(t).flatten(1))
            out.append((logits, F.cross_entropy(logits, y, reduction='none')))
            wrong = (logits.argmax(1) != y).nonzero().flatten()
            bad.append((x[wrong], logits[wrong].argmax(1), y[wrong]))
    t, pred, true = (torch.cat(v) for v in zip(*bad))
    a = t.requires_grad_()
    for s in stages[cut:]: t = s(t)
    logits = model.fc(model.pool(t).flatten(1))
    return out, [torch.autograd.grad(logits.gather(1, c[:, None]).sum(), a, retain_graph=True)[0] for c in (pred, true)]

def forward(model, x):
    with torch.no_grad(): return model(x)

def evaluate(model, batches):
    "Plain evaluation: logits and losses of every sample."
    out = []
    with torch.no_grad():
        for x, y in batches:
            logits = model(x)
            out.append((logits, F.cross_entropy(logits, y, reduction='none')))
    return out

def peer_gradcam(cls, model, x, layer):
    with redirect_stderr(io.StringIO()), cls(model=model, target_layers=[getattr(model, layer)]) as cam: return cam(x, None)  # its progress bars

def peer_torchcam(cls, model, x, layer):
    "Its complete map: prediction, weights, ReLU, scale, and the enlargement it leaves to its user."
    with cls(model, layer) as cam:
        logits = model(x)
        maps = cam(logits.argmax(1).tolist(), logits)[0]
    return F.interpolate(maps[:, None], x.shape[-2:], mode='bilinear', align_corners=False)

def seconds(f, cuda):
    "CPU seconds of all threads, or GPU seconds between two events."
    if cuda:
        a, b = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        a.record(); f(); b.record(); torch.cuda.synchronize()
        return a.elapsed_time(b) / 1e3
    t = time.process_time(); f()
    return time.process_time() - t

def alternate(contenders, rounds, cuda):
    "Times of each contender over rounds in which all take their turn; the first round warms up and is dropped."
    times = {k: [] for k in contenders}
    for r in range(rounds + 1):
        for k, f in contenders.items():
            t = seconds(f, cuda)
            if r: times[k].append(t)
    return times

def modes(rounds, batch):
    "Times of torchcam and of the folded copies in a process of their own: the gradients of the others leave so much free memory behind that nobody pays for any."
    from torchcam.methods import GradCAM as TorchGradCAM
    torch.manual_seed(0)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    model, x = resnet18().eval().to(device), torch.randn(batch, 3, 32, 32, device=device)
    fast, bf16 = fast_copy(model, x), fast_copy(model, x, torch.bfloat16)
    jobs = {'torchcam alone': lambda: peer_torchcam(TorchGradCAM, model, x, 'layer4'), 'fast': lambda: gradcam(fast, x, 'layer4'), 'bf16': lambda: gradcam(bf16, x.bfloat16(), 'layer4')}
    return alternate(jobs, rounds, device == 'cuda')

def kept_for_backward(f, model):
    "MiB that autograd keeps for backward while `f` runs, weights not counted."
    own, kept = {t.untyped_storage().data_ptr() for t in [*model.parameters(), *model.buffers()]}, {}
    def pack(t):
        s = t.untyped_storage()
        if s.data_ptr() not in own: kept[s.data_ptr()] = s.nbytes()
        return t
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t): f()
    return sum(kept.values()) / MIB

def import_seconds(n=7):
    "What `import eva_cam.gradcam` adds to `import torch`, in fresh interpreters."
    code = 'import torch, time; t = time.perf_counter(); import eva_cam.gradcam; print(time.perf_counter() - t)'
    return [float(subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout) for _ in range(n)]

def correlation(a, b): return torch.corrcoef(torch.stack([a.flatten().float(), b.flatten().float()]))[0, 1].item()

def main(rounds=7, batch=64, out='benchmarks/results/cam.json'):
    from pytorch_grad_cam import AblationCAM, GradCAM
    from torchcam.methods import GradCAM as TorchGradCAM
    warnings.filterwarnings('ignore')
    torch.manual_seed(0)
    cuda = torch.cuda.is_available()
    device = 'cuda' if cuda else 'cpu'
    model = resnet18().eval().to(device)
    x = torch.randn(batch, 3, 32, 32, device=device)
    bf16 = fast_copy(model, x, torch.bfloat16)
    data = [(torch.randn_like(x),) for _ in range(10)]
    data = [(x, forward(model, x).argmax(1)) for x, in data]
    for i, (_, y) in enumerate(data): y[:4 + i % 2] = (y[:4 + i % 2] + 1) % 10  # 4 or 5 of 64 wrong, 7.0 % in all
    three = dict(target=('pred', 'true', 'pred-true'), labels=(torch.arange(batch, device=device) % 10), scale='pair')

    picture, cam = torch.rand(batch, 32, 32, 3, device=device).mul(255).byte(), torch.rand(batch, 32, 32, device=device)
    jobs = dict(forward=lambda: forward(model, x), evaluate=lambda: evaluate(model, data))
    for l in ('layer3', 'layer4'):
        jobs |= {f'floor {l}': lambda l=l: floor(model, x, l), f'ours {l}': lambda l=l: gradcam(model, x, l),
                 f'torchcam {l}': lambda l=l: peer_torchcam(TorchGradCAM, model, x, l), f'grad-cam {l}': lambda l=l: peer_gradcam(GradCAM, model, x, l),
                 f'three {l}': lambda l=l: gradcam(model, x, l, **three), f'errors {l}': lambda l=l: explain_errors(model, data, l), f'errors floor {l}': lambda l=l: errors_floor(model, data, l)}
    jobs |= {'overlay': lambda: overlay(picture, cam), 'all layer4': lambda: gradcam(model, x, 'layer4', target='all'), 'ours ablation': lambda: ablationcam(model, x[:4], 'layer4'),
             'grad-cam ablation': lambda: peer_gradcam(AblationCAM, model, x[:4], 'layer4')}
    times = alternate(jobs, rounds, cuda)
    times |= json.loads(subprocess.run([sys.executable, __file__, '--modes', '--rounds', str(rounds), '--batch', str(batch)], capture_output=True, text=True, check=True).stdout)

    def ratio(a, b):
        r = sorted(p / q for p, q in zip(times[a], times[b]))
        return dict(value=statistics.median(r), low=r[0], high=r[-1], n=len(r))
    def milliseconds(k): return {p: 1e3 * q if p != 'n' else q for p, q in dict(value=statistics.median(times[k]), low=min(times[k]), high=max(times[k]), n=rounds).items()}
    def plain(v): return dict(value=v, low=v, high=v, n=1)
    imports = sorted(import_seconds())
    rows = []
    def row(what, goal, sense, figure): rows.append(dict(what=what, goal=goal, sense=sense, holds=goal is None or (figure['value'] <= goal if sense == 'at most' else figure['value'] >= goal), **figure))
    for l in ('layer3', 'layer4'): row(f'Grad-CAM {l} over the floor', 1.03, 'at most', ratio(f'ours {l}', f'floor {l}'))
    row("grad-cam's time over ours, layer3", 2.5, 'at least', ratio('grad-cam layer3', 'ours layer3'))
    row("grad-cam's time over ours, layer4", 3.1, 'at least', ratio('grad-cam layer4', 'ours layer4'))
    for l in ('layer3', 'layer4'): row(f"our time over torchcam's, {l}", 1.02, 'at most', ratio(f'ours {l}', f'torchcam {l}'))
    row("fast mode over torchcam, layer4", 0.91, 'at most', ratio('fast', 'torchcam alone'))
    row("bf16 over torchcam, layer4", 0.54, 'at most', ratio('bf16', 'torchcam alone'))
    row('correlation of bf16 maps with fp32, layer4', 0.999, 'at least', plain(correlation(gradcam(bf16, x.bfloat16(), 'layer4', 3).raw, gradcam(model, x, 'layer4', 3).raw)))
    row('predicted + true + difference over the floor, layer4', 1.03, 'at most', ratio('three layer4', 'floor layer4'))
    row('predicted + true + difference over the floor, layer3', 1.22, 'at most', ratio('three layer3', 'floor layer3'))
    row('evaluate and explain 7.0 % errors over evaluation, layer4', 1.03, 'at most', ratio('errors layer4', 'evaluate'))
    # behind layer3 lie 24 % of the arithmetic, run once and back twice for 7 % of the images: 5 % that nothing can save
    row('evaluate and explain 7.0 % errors over the floor, layer3', 1.03, 'at most', ratio('errors layer3', 'errors floor layer3'))
    row('the same over evaluation, layer3', None, '', ratio('errors layer3', 'evaluate'))
    row('memory kept for backward, layer3, MiB', 25, 'at most', plain(kept_for_backward(lambda: gradcam(model, x, 'layer3'), model)))
    row('memory kept for backward, layer4, MiB', 0, 'at most', plain(kept_for_backward(lambda: gradcam(model, x, 'layer4'), model)))
    row('all ten class maps, layer4, over one forward', 1.05, 'at most', ratio('all layer4', 'forward'))
    row("grad-cam's Ablation-CAM over ours, layer4, four images", 100, 'at least', ratio('grad-cam ablation', 'ours ablation'))
    row('64 overlays of 32x32, ms', 2, 'at most', milliseconds('overlay'))
    row('import of eva_cam.gradcam on top of torch, s', 0.3, 'at most', dict(value=statistics.median(imports), low=imports[0], high=imports[-1], n=len(imports)))

    print(f'{"what":<62}{"goal":>16}{"median":>10}   spread')
    for r in rows: print(f"{r['what']:<62}{r['sense'] + ' ' + str(r['goal']) if r['sense'] else '':>16}{r['value']:>10.3f}   {r['low']:.3f}..{r['high']:.3f} (n={r['n']})   {'holds' if r['holds'] else 'SHORT'}")
    facts = dict(hardware=hardware_name(device), threads=torch.get_num_threads(), clock='CUDA events' if cuda else 'CPU time of all threads', python=platform.python_version(),
                 versions={p: version(p) for p in ('torch', 'grad-cam', 'torchcam', 'numpy')}, batch=batch, rounds=rounds,
                 seconds={k: dict(median=statistics.median(v), low=min(v), high=max(v)) for k, v in times.items()}, rows=rows)
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    Path(out).write_text(json.dumps(facts, indent=1) + '\n')
    return all(r['holds'] for r in rows)

if __name__ == '__main__':
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--rounds', type=int, default=7)
    ap.add_argument('--out', default='benchmarks/results/cam.json')
    ap.add_argument('--batch', type=int, default=64, help='images')
    ap.add_argument('--modes', action='store_true', help='only torchcam and the fast modes, as JSON, for the process that runs this one')
    a = ap.parse_args()
    if a.modes: print(json.dumps(modes(a.rounds, a.batch))); sys.exit()
    sys.exit(0 if main(a.rounds, a.batch, a.out) else 1)
