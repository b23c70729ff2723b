"""Make the sheets of real CIFAR-10 images that ship with eva_cam.

    python -m eva_cam.samples.make cifar10.npz      # x_train, y_train, x_test, y_test of the whole data set

The choice is balanced over the classes and follows from SEED alone; a second run writes the same pixels.
"""
import hashlib, json, os, sys
from pathlib import Path
import numpy as np
from PIL import Image

SEED = 2009  # the year of the data set's report
PER_CLASS = dict(train=200, test=100)
COLS = 50
CLASSES = 'airplane automobile bird cat deer dog frog horse ship truck'.split()

def choose(y, n, rng):
    "Positions of `n` images of every class of the labels `y`, ascending."
    return np.sort(np.concatenate([rng.permutation(np.flatnonzero(y == c))[:n] for c in range(len(CLASSES))]))

def write_sheet(x, path, cols=COLS):
    "Tile the uint8 images `x` (N,H,W,3) row by row, `cols` to a row, into one lossless WebP."
    n, h, w, _ = x.shape
    sheet = x.reshape(n // cols, cols, h, w, 3).transpose(0, 2, 1, 3, 4).reshape(n // cols * h, cols * w, 3)
    aside = path.with_suffix('.aside')
    Image.fromarray(sheet).save(aside, 'webp', lossless=True, quality=100, method=6)
    os.replace(aside, path)

def make(npz, out):
    "Write train.webp, test.webp and sample.json into the folder `out` from the arrays in the file `npz`."
    arrays, rng, note = np.load(npz), np.random.Generator(np.random.Philox(SEED)), dict(classes=CLASSES, cols=COLS)
    for split, n in PER_CLASS.items():
        x, y = arrays[f'x_{split}'], arrays[f'y_{split}']
        idxs = choose(y, n, rng)
        write_sheet(x[idxs], out / f'{split}.webp')
        note[split] = dict(idxs=idxs.tolist(), labels=y[idxs].tolist(), sha256=hashlib.sha256(x[idxs].tobytes()).hexdigest())
    (out / 'sample.json').write_text(json.dumps(note), encoding='utf-8')

if __name__ == '__main__':
    if len(sys.argv) != 2: sys.exit('usage: python -m eva_cam.samples.make cifar10.npz')
    make(sys.argv[1], Path(__file__).parent)
