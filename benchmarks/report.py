"""What a whole report costs over a plain evaluation: 10,000 images, a pair of maps for each mistake, and the HTML file.

    python benchmarks/report.py                 # prints the measures, writes benchmarks/results/report.json

The images are the thousand that ship with the package in ten versions each: mirrored or not, shifted by -2 to 2 pixels, so that
no two are the same. One process, contenders alternated, wall time; memory is the peak of a process of its own for each.
"""
import argparse, json, os, platform, statistics, subprocess, sys, tempfile, time
from importlib.metadata import version
from pathlib import Path

import numpy as np, torch
from eva_cam.compute import hardware_name
from eva_cam.data import Batches, ImageSet, load_data
from eva_cam.html import write_report
from eva_cam.models import pretrained
from eva_cam.report import interpret
from eva_cam.panel import panel

ROUNDS, BATCH = 5, 500

def images(n):
    ds = load_data('sample').test
    x = np.concatenate([np.roll(ds.x[:, :, ::flip], shift, axis=2) for flip in (1, -1) for shift in (-2, -1, 0, 1, 2)])
    return ImageSet(x[:n], np.tile(ds.y, 10)[:n], ds.classes, name='sample, ten versions')

def evaluate(model, meta, ds):
    "Plain evaluation: logits of every image."
    with torch.inference_mode(): return torch.cat([model(xb) for xb, _ in Batches(ds, BATCH, mean=meta['mean'], std=meta['std'])])

def report(model, meta, ds, out):
    "Everything: evaluation, maps of the misclassified, and the file."
    interp = interpret(model, ds, meta['mean'], meta['std'], meta['cam_layer'], bs=BATCH, meta=meta)
    return interp, write_report(interp, out)

def seconds(f):
    start = time.perf_counter(); f()
    return time.perf_counter() - start

def peak(what, n):
    "Peak memory in MiB of a process of its own that evaluates or reports on n images."
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import report; print(report.peak_here({what!r}, {n}))"
    return float(subprocess.run([sys.executable, '-c', code], check=True, capture_output=True, text=True).stdout)

def peak_here(what, n):
    (model, meta), ds = pretrained(), images(n)
    with tempfile.TemporaryDirectory() as tmp:
        if what == 'evaluate': evaluate(model, meta, ds)
        else: report(model, meta, ds, f'{tmp}/r.html')
    # not ru_maxrss: a child inherits that from the process that forked it, and the two peaks would always agree
    return next(int(l.split()[1]) for l in Path('/proc/self/status').read_text().splitlines() if l.startswith('VmHWM')) / 1024

def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--n', type=int, default=10_000, help='images, at most 10,000; the measures of fewer are printed and not kept')
    if not 1 <= (n := parser.parse_args().n) <= 10_000: parser.error(f'--n is {n}: give 1 to 10,000 images')
    (model, meta), ds = pretrained(), images(n)
    plain, whole = [], []
    with tempfile.TemporaryDirectory() as tmp:
        interp, file = report(model, meta, ds, f'{tmp}/r.html')                      # also warms up
        wrong, size = int(interp.wrong.sum()), file.stat().st_size
        for _ in range(ROUNDS):
            plain.append(seconds(lambda: evaluate(model, meta, ds)))
            whole.append(seconds(lambda: report(model, meta, ds, f'{tmp}/r.html')))
    p = panel(interp)
    blend = [1e3 * seconds(lambda: setattr(p.alpha, 'value', a)) for a in np.linspace(0, 1, 21)]
    others = [l for l in p.layer.options if l != p.layer.value][:4]
    layer = [1e3 * seconds(lambda: setattr(p.layer, 'value', l)) for l in others]
    ratio = [w / e for w, e in zip(whole, plain)]
    mib = {k: peak(*k) for k in (('evaluate', n), ('report', n), ('report', n // 5))}
    measures = [('time of the whole report over plain evaluation', statistics.median(ratio), 'at most', 1.25, ratio),
                ('peak memory of the report over plain evaluation', mib['report', n] / mib['evaluate', n], 'at most', 1.25, [mib['report', n] / mib['evaluate', n]]),
                ('peak memory of the report over that for a fifth of the images', mib['report', n] / mib['report', n // 5], 'at most', 1.15, [mib['report', n] / mib['report', n // 5]]),
                ('megabytes of the file for 200 mistakes', size / 1e6 * 200 / max(wrong, 1), 'at most', 5, [size / 1e6 * 200 / max(wrong, 1)]),
                ('panel: milliseconds for a moved blend', statistics.median(blend), 'at most', 50, blend),
                ('panel: milliseconds for another layer', statistics.median(layer), 'at most', 300, layer)]
    print(f'{n:,} images, {wrong} mistakes with two maps each; evaluation {statistics.median(plain):.2f} s, report {statistics.median(whole):.2f} s')
    rows = []
    for name, value, how, goal, seen in measures:
        rows.append(dict(name=name, value=value, goal=goal, holds=value <= goal, n=len(seen), spread=[min(seen), max(seen)]))
        print(f'{name}: {value:.3g}, {how} {goal}: {"holds" if value <= goal else "short"}')
    where = dict(cpu=hardware_name(), cores=os.cpu_count(), threads=torch.get_num_threads(), python=platform.python_version(), **{k: version(k) for k in ('torch', 'numpy', 'eva_cam')})
    results = Path(__file__).parent / 'results'
    results.mkdir(exist_ok=True)
    if n == 10_000: (results / 'report.json').write_text(json.dumps(dict(where=where, images=n, mistakes=wrong, evaluation_s=plain, report_s=whole, memory_mib={f'{what}, {k:,} images': v for (what, k), v in mib.items()}, measures=rows), indent=1) + '\n')
    sys.exit(any(not r['holds'] for r in rows))

if __name__ == '__main__': main()
