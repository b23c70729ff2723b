"""How fast eva_cam augments, beside albumentations in a DataLoader.

    python benchmarks/augment.py

Pad 4, crop, flip, one hole of 8x8, batches of 512 of 50,000 images (the shipped 2,000, repeated, so that memory behaves as
with a whole data set). All engines run in this one process, in turn, ROUNDS times; a ratio is the median of the rounds'
ratios. The batched engine works on one thread; albumentations in this process (0 workers) or in 2 worker processes.
Each side does the same work: bytes are compared with bytes, which nobody normalised, and floats with floats.
"""
import json, os, platform, resource, sys, time
from pathlib import Path
import numpy as np, torch
from eva_cam.augment import Batches, Pipeline, albumentations
from eva_cam.compute import hardware_name
from eva_cam.data import CIFAR10_MEAN, CIFAR10_STD, ImageSet, load_data

ROUNDS, BS = 9, 512
PLAIN = Pipeline(pad=4, flip=0.5, holes=(1, 1), hole_size=(8, 8))
RICH = Pipeline(pad=4, flip=0.5, rotate=8, brightness=0.05, contrast=0.05, holes=(1, 1), hole_size=(8, 8))

class PerImage(torch.utils.data.Dataset):
    "The usual way: one image at a time, augmented by albumentations and, unless bytes are wanted, normalised and made a tensor by it."
    def __init__(self, ds, pipeline, bytes_only=False):
        from albumentations.pytorch import ToTensorV2
        A, self.ds, self.compose = albumentations(), ds, pipeline.compose(32, 32)
        if not bytes_only: self.compose = A.Compose([*self.compose.transforms, A.Normalize(CIFAR10_MEAN, CIFAR10_STD, p=1), ToTensorV2(p=1)], p=1)
    def __len__(self): return len(self.ds)
    def __getitem__(self, i): return self.compose(image=self.ds.x[i])['image'], int(self.ds.y[i])

def loader_speed(dataset, workers, n):
    "Images a second of a DataLoader, from its second round of batches on, so that starting workers is not counted."
    batches = iter(torch.utils.data.DataLoader(dataset, BS, shuffle=True, num_workers=workers))
    for _ in range(2*workers + 1): next(batches)
    start = time.perf_counter()
    for _ in range(n): next(batches)
    return n*BS/(time.perf_counter() - start)

def batches_speed(make, n=90):
    "Images a second of `make(epoch, i)` over `n` batches."
    start = time.perf_counter()
    for i in range(n): make(0, i)
    return n*BS/(time.perf_counter() - start)

def resident():
    "Bytes of memory this process holds now, or None where the system does not say."
    try: return int(Path('/proc/self/statm').read_text().split()[1])*resource.getpagesize()
    except OSError: return None

def share_of_a_step(device, ds, bs=BS, n=30):
    "Time to make a batch on `device`, over the time of a training step of the custom ResNet with it; the median of n."
    from eva_cam.models import build_model
    model, batches = build_model('custom_resnet').to(device, memory_format=torch.channels_last), Batches(ds, bs, PLAIN, shuffle=True, device=device)
    opt, times = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9), []
    def now():
        if torch.device(device).type == 'cuda': torch.cuda.synchronize()
        return time.perf_counter()
    for i in range(n + 5):
        start = now()
        xb, yb = batches.batch(0, i % len(batches))
        made = now()
        torch.nn.functional.cross_entropy(model(xb), yb).backward()
        opt.step(), opt.zero_grad()
        times.append((made - start, now() - made))
    return [round(a/b, 4) for a, b in times[5:]]

def measure():
    "Every measure: name to (value, goal, unit, rounds)."
    sample = load_data().train
    images = ImageSet(np.tile(sample.x, (25, 1, 1, 1)), np.tile(sample.y, 25), sample.classes)
    own = ImageSet(images.x.copy(), images.y, images.classes)
    theirs = dict(plain=PerImage(own, PLAIN), rich=PerImage(own, RICH), bytes=PerImage(own, PLAIN, bytes_only=True))
    before = resident()
    plain, rich = (Batches(images, BS, p, shuffle=True) for p in (PLAIN, RICH))
    for epoch in range(3):
        for i in range(len(plain)): plain.batch(epoch, i)
    rich.batch(0, 0)
    held = before and resident() - before + sample.x.nbytes*25  # the images before padding were given back
    speeds = {k: [] for k in ('ours uint8', 'ours float', 'ours rich', 'theirs uint8 0', 'theirs uint8 2', 'theirs 0', 'theirs 2', 'theirs rich')}
    for _ in range(ROUNDS):
        speeds['theirs uint8 0'].append(loader_speed(theirs['bytes'], 0, 8))
        speeds['theirs 0'].append(loader_speed(theirs['plain'], 0, 8))
        speeds['ours uint8'].append(batches_speed(plain.raw))
        speeds['ours float'].append(batches_speed(plain.batch))
        speeds['theirs uint8 2'].append(loader_speed(theirs['bytes'], 2, 16))
        speeds['theirs 2'].append(loader_speed(theirs['plain'], 2, 16))
        speeds['theirs rich'].append(loader_speed(theirs['rich'], 0, 6))
        speeds['ours rich'].append(batches_speed(rich.batch, 20))
    def ratio(a, b, goal): return (float(np.median(r := np.divide(speeds[a], speeds[b]))), goal, 'times', np.round(r, 2).tolist())
    rows = {'normalised float32, against 0 workers': ratio('ours float', 'theirs 0', 60), 'normalised float32, against 2 workers': ratio('ours float', 'theirs 2', 35),
            'uint8, against 0 workers': ratio('ours uint8', 'theirs uint8 0', 100), 'uint8, against 2 workers': ratio('ours uint8', 'theirs uint8 2', 60),
            'with rotation and brightness, against 0 workers': ratio('ours rich', 'theirs rich', 5)}
    for k, v in speeds.items(): rows[f'images a second, {k}'] = (float(np.median(v)), None, 'images/s', np.round(v).tolist())
    padded = images.padded(PLAIN.pad, PLAIN.pad_mode, PLAIN.fill255).nbytes
    if before: rows['memory held after three epochs, over the padded images'] = (held/padded, 1.15, 'times (at most)', [held/padded])
    if torch.cuda.is_available():
        shares = share_of_a_step('cuda', images)
        rows['batch on the GPU, over a training step of the custom ResNet'] = (float(np.median(shares)), 0.05, 'of a step (at most)', shares)
    return rows

if __name__ == '__main__':
    torch.set_num_threads(1)
    rows, short = measure(), 0
    for name, (value, goal, unit, _) in rows.items():
        holds = goal is None or (value <= goal if 'at most' in unit else value >= goal)
        short += not holds
        print(f'{name}: {value:,.2f} {unit}' + ('' if goal is None else f', goal {goal}, {"holds" if holds else "SHORT"}'), flush=True)
    out = Path(__file__).parent/'results'/'augment.json'
    out.parent.mkdir(exist_ok=True)
    about = dict(machine=platform.machine(), cpu=hardware_name(), gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None, cores=os.cpu_count(), python=platform.python_version(), torch=torch.__version__,
                 numpy=np.__version__, albumentations=albumentations().__version__, rounds=ROUNDS, batch=BS)
    out.write_text(json.dumps(dict(about=about, measures={k: dict(value=v, goal=g, unit=u, rounds=r) for k, (v, g, u, r) in rows.items()}), indent=1) + '\n')
    sys.exit(bool(short))
