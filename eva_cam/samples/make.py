"""Make the sheets of real CIFAR-10 images that ship with eva_cam: a balanced sample, and pairs that are nearly the same.

    python -m eva_cam.samples.make cifar10.npz      # x_train, y_train, x_test, y_test of the whole data set

The sample follows from SEED alone, the pairs from the search in eva_cam.inspect; a second run writes the same pixels.
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

def make_duplicates(npz, out, pairs=16):
    "Write duplicates.webp and duplicates.json: the `pairs` most alike images of the whole data set, no image twice."
    from eva_cam.data import ImageSet
    from eva_cam.inspect import find_duplicates
    a = np.load(npz)
    both = [np.concatenate([a[f'{k}_train'], a[f'{k}_test']]) for k in 'xy']
    n, table = len(a['x_train']), find_duplicates(ImageSet(*both, CLASSES))
    seen, chosen = set(), []
    for i, j in zip(table.row, table.other_row):
        if len(chosen) < 2 * pairs and not {i, j} & seen: chosen += [i, j]
        seen |= {i, j}
    across = (table.row < n) & (table.other_row >= n)
    note = dict(cols=8, idxs=[int(i - n if i >= n else i) for i in chosen], splits=['test' if i >= n else 'train' for i in chosen],
        labels=both[1][chosen].tolist(), exact=int((table.kind == 'exact').sum()), near=int((table.kind == 'near').sum()),
        across=int(across.sum()), test_images=int(table.other_row[across].nunique()))
    write_sheet(both[0][chosen], out / 'duplicates.webp', note['cols'])
    (out / 'duplicates.json').write_text(json.dumps(note), encoding='utf-8')

if __name__ == '__main__':
    if len(sys.argv) != 2: sys.exit('usage: python -m eva_cam.samples.make cifar10.npz')
    make(sys.argv[1], Path(__file__).parent)
    make_duplicates(sys.argv[1], Path(__file__).parent)
