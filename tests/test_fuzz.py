"""Foreign bytes, at random: every reader must read them or refuse them with a documented error, and leave nothing behind.

Up to two hundred inputs each; up to ten thousand with `python -m pytest tests/test_fuzz.py --long`. hypothesis is told to draw the same ones every time.
"""
import contextlib, io, json, traceback, warnings
from pathlib import Path
import numpy as np, pytest, torch
hypothesis = pytest.importorskip('hypothesis')
from hypothesis import HealthCheck, given, settings, strategies as st
from PIL import Image
import eva_cam
from eva_cam.checkpoints import newest_checkpoint, read_checkpoint, write_checkpoint
from eva_cam.data import ImageSet, load_data
from eva_cam.html import eva_cam_report
from eva_cam.models import fast_net, load_weights, save_weights
from eva_cam.recipes import RECIPES, Recipe
from eva_cam.report import Interpretation, load_interpretation

SAID = (ValueError, TypeError, FileNotFoundError)  # what the docstrings promise
HOME = Path(eva_cam.__file__).parent
RNG = np.random.default_rng(0)

@pytest.fixture(scope='module')
def many(request): return 10_000 if request.config.getoption('--long') else 200

def fuzz(many, strategy, f):
    "Call `f` with `many` draws of `strategy`."
    given(strategy)(settings(max_examples=many, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))(lambda x: f(x)))()

@st.composite
def damaged(draw, whole):
    "`whole` with one to four wounds: a byte changed, a piece cut out, doubled, zeroed or put in, or the end lost."
    b = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        i, n = draw(st.integers(0, max(len(b) - 1, 0))), draw(st.integers(1, 64))
        kind = draw(st.sampled_from(('change', 'cut', 'double', 'zero', 'insert', 'end')))
        if kind == 'change' and b: b[i] = draw(st.integers(0, 255))
        elif kind == 'cut': del b[i:i + n]
        elif kind == 'double': b[i:i] = b[i:i + n]
        elif kind == 'zero': b[i:i + n] = bytes(len(b[i:i + n]))
        elif kind == 'insert': b[i:i] = draw(st.binary(max_size=32))
        else: del b[i:]
    return bytes(b)

ANY = st.recursive(st.none() | st.booleans() | st.integers(-10**12, 10**12) | st.floats() | st.text(max_size=20), lambda c: st.lists(c, max_size=4) | st.dictionaries(st.text(max_size=8), c, max_size=4), max_leaves=8)

@st.composite
def bent(draw, tree):
    "A JSON tree of which one to three values were replaced, or keys dropped."
    tree = json.loads(json.dumps(tree))
    for _ in range(draw(st.integers(1, 3))):
        node = tree
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys: break
            k = draw(st.sampled_from(keys))
            if isinstance(node[k], (dict, list)) and node[k] and draw(st.booleans()): node = node[k]; continue
            if draw(st.integers(0, 4)) == 0: del node[k]
            else: node[k] = draw(ANY)
            break
    return tree

@contextlib.contextmanager
def nothing_new(folder):
    "Nothing may appear, vanish or change below `folder` inside this context."
    def seen(): return {p: p.stat().st_size if p.is_file() else None for p in folder.rglob('*')}
    before = seen(); yield; assert seen() == before

def on_purpose(e):
    "Whether `e` comes from a line of ours that raises, and not from within what we call."
    last = traceback.extract_tb(e.__traceback__)[-1]
    return Path(last.filename).parent == HOME and 'raise ' in last.line

def refused_or_read(f, folder):
    with nothing_new(folder), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try: f()
        except SAID as e: assert str(e).strip() and on_purpose(e), e

def test_npz(many, tmp_path):
    x, y = RNG.integers(0, 256, (4, 8, 8, 3), np.uint8), np.arange(4) % 2
    np.savez_compressed(tmp_path / 'a.npz', x_train=x, y_train=y, x_test=x, y_test=y, classes=np.array(['a', 'b']))
    np.savez(tmp_path / 'b.npz', x_train=x, y_train=y, x_test=x, y_test=y)
    def attempt(content):
        (tmp_path / 'bad.npz').write_bytes(content)
        refused_or_read(lambda: load_data(tmp_path / 'bad.npz'), tmp_path)
    for name in 'ab': fuzz(many // 2, damaged((tmp_path / f'{name}.npz').read_bytes()), attempt)

ARRAY = st.tuples(st.lists(st.integers(0, 5), max_size=5), st.sampled_from(('u1', 'i8', 'f4', 'f8', 'U3', '?', 'c8')))

def test_npz_of_other_arrays(many, tmp_path):
    def attempt(spec):
        np.savez(tmp_path / 'bad.npz', **{k: np.zeros(shape, dtype) for k, (shape, dtype) in spec.items()})
        refused_or_read(lambda: load_data(tmp_path / 'bad.npz', valid=1), tmp_path)
    fuzz(many, st.fixed_dictionaries({k: ARRAY for k in ('x_train', 'y_train', 'x_test', 'y_test')}, optional=dict(classes=ARRAY, other=ARRAY)), attempt)

LABEL = st.sampled_from((0, 1, 1, 2, 9, -1, 255, 10**6, 2**32 - 1, 2**63, 1.5, float('nan'), float('inf'), True, 'cat', b'cat'))
LABELS = st.lists(LABEL, min_size=4, max_size=4) | LABEL.map(lambda v: [v] * 4) | LABEL

def test_npz_of_other_labels(many, tmp_path):
    "Labels and class names as people may have stored them, beside images that are right."
    x = RNG.integers(0, 256, (4, 8, 8, 3), np.uint8)
    def attempt(spec):
        np.savez(tmp_path / 'bad.npz', x_train=x, x_test=x, **{k: np.array(v) for k, v in spec.items()})
        for skip in (False, True): refused_or_read(lambda: load_data(tmp_path / 'bad.npz', skip_bad=skip), tmp_path)
    right = st.just([0, 1, 0, 1])
    fuzz(many, st.fixed_dictionaries(dict(y_train=right | LABELS, y_test=right | LABELS), optional=dict(classes=LABELS | st.just(['a', 'b']))), attempt)

@pytest.mark.parametrize('kind', ['PNG', 'JPEG', 'GIF', 'BMP', 'WEBP', 'TIFF'])
def test_photographs(kind, many, tmp_path):
    buf = io.BytesIO(); Image.fromarray(RNG.integers(0, 256, (9, 7, 3), np.uint8)).save(buf, kind)
    for c in ('cat', 'dog'): (tmp_path / 'in' / c).mkdir(parents=True)
    good = tmp_path / 'in/cat/good.png'; Image.new('RGB', (9, 7)).save(good)
    def attempt(content):
        (tmp_path / f'in/dog/bad.{kind.lower()}').write_bytes(content)
        for skip in (False, True): refused_or_read(lambda: load_data(tmp_path / 'in', size=8, skip_bad=skip, cache=False), tmp_path)
    fuzz(many // 6 + 1, damaged(buf.getvalue()), attempt)

def test_kept_photographs(many, tmp_path):
    "Whatever became of a file in the cache: as many photographs of that size are had, and nothing else is left there."
    for c in ('cat', 'dog'): (tmp_path / 'in' / c).mkdir(parents=True); Image.new('RGB', (9, 7)).save(tmp_path / 'in' / c / 'a.png')
    def read(): return load_data(tmp_path / 'in', size=8, cache=tmp_path / 'cache').test.x
    read(); kept = next((tmp_path / 'cache').iterdir()); whole = kept.read_bytes()
    def attempt(content):
        kept.write_bytes(content)
        with warnings.catch_warnings(): warnings.simplefilter('ignore'); assert read().shape == (2, 8, 8, 3)
        assert [p.name for p in kept.parent.iterdir()] == [kept.name]
    fuzz(many // 2, damaged(whole[:128]).map(lambda h: h + whole[128:]), attempt)
    fuzz(many // 2, damaged(whole), attempt)

def test_checkpoints(many, tmp_path):
    whole = write_checkpoint(dict(model=dict(w=torch.arange(6.)), step=3, losses=[.5]), tmp_path / 'ckpt_00000003.pt').read_bytes()
    def attempt(content):
        (tmp_path / 'ckpt_00000004.pt').write_bytes(content)
        refused_or_read(lambda: read_checkpoint(tmp_path / 'ckpt_00000004.pt'), tmp_path)
        refused_or_read(lambda: newest_checkpoint(tmp_path), tmp_path)
    fuzz(many, damaged(whole), attempt)

def test_sealed_nonsense(many, tmp_path):
    "The seal is right and what it holds is not: only a whole state of plain things is read."
    import hashlib
    from eva_cam.checkpoints import MAGIC
    buf = io.BytesIO(); torch.save(dict(w=torch.arange(4.), n=[1, 2], s='x'), buf)
    def attempt(content):
        (tmp_path / 'x.pt').write_bytes(MAGIC + len(content).to_bytes(8, 'big') + hashlib.sha256(content).digest() + content)
        refused_or_read(lambda: read_checkpoint(tmp_path / 'x.pt'), tmp_path)
    fuzz(many, damaged(buf.getvalue()), attempt)

def test_weights(many, tmp_path):
    net = fast_net(3, widths=(4, 4, 4))
    whole = save_weights(net, tmp_path / 'w.safetensors', dict(arch='fast_net', arch_kw=dict(widths=[4, 4, 4]), classes=['a', 'b', 'c'], mean=(.5,) * 3, std=(.25,) * 3)).read_bytes()
    head = 8 + int.from_bytes(whole[:8], 'little')
    def attempt(content):
        (tmp_path / 'bad.safetensors').write_bytes(content)
        refused_or_read(lambda: load_weights(tmp_path / 'bad.safetensors'), tmp_path)
    fuzz(many // 2, damaged(whole), attempt)
    fuzz(many // 2, damaged(whole[:head]).map(lambda h: h + whole[head:]), attempt)

def test_what_weights_say_of_themselves(many, tmp_path):
    from safetensors.torch import load_file, safe_open, save_file
    path = save_weights(fast_net(3, widths=(4, 4, 4)), tmp_path / 'w.safetensors', dict(arch='fast_net', arch_kw=dict(widths=[4, 4, 4]), classes=['a', 'b', 'c'], mean=(.5,) * 3, std=(.25,) * 3))
    with safe_open(path, 'pt') as f: meta = json.loads(f.metadata()['eva_cam'])
    tensors = load_file(path)
    def attempt(tree):
        save_file(tensors, tmp_path / 'bad.safetensors', {'eva_cam': json.dumps(tree)})
        refused_or_read(lambda: load_weights(tmp_path / 'bad.safetensors'), tmp_path)
    fuzz(many, bent(meta), attempt)

@pytest.fixture
def kept(tmp_path):
    "A saved interpretation of six images."
    ds = ImageSet(RNG.integers(0, 256, (6, 8, 8, 3), np.uint8), np.arange(6) % 3, ['a', 'b', '../c'], name='six', split='test')
    z = RNG.normal(size=(6, 3)).astype(np.float32)
    rows = np.flatnonzero(z.argmax(1) != ds.y)
    return Interpretation(ds, z, rows, RNG.normal(size=(len(rows), 2, 4, 4)).astype(np.float32), meta=dict(layer='l', method='gradcam', mean=[.5] * 3, std=[.2] * 3)).save(tmp_path / 'kept')

def test_manifests(many, kept, tmp_path):
    whole = json.loads((kept / 'manifest.json').read_text())
    def attempt(tree):
        (kept / 'manifest.json').write_text(json.dumps(tree))
        refused_or_read(lambda: load_interpretation(kept), tmp_path)
    fuzz(many, bent(whole), attempt)

@pytest.mark.parametrize('name', ['manifest.json', 'pixels.npz', 'results.npz'])
def test_files_of_an_interpretation(name, many, kept, tmp_path):
    whole = (kept / name).read_bytes()
    def attempt(content):
        (kept / name).write_bytes(content)
        refused_or_read(lambda: load_interpretation(kept), tmp_path)
    fuzz(many // 3 + 1, damaged(whole), attempt)

@pytest.mark.parametrize('name', ['fast', 'eva4_plateau'])
def test_recipe_files(name, many, tmp_path):
    fuzz(many // 2, bent(RECIPES[name].to_dict()), lambda tree: refused_or_read(lambda: Recipe.from_dict(tree), tmp_path))

WORD = st.text(max_size=30) | st.sampled_from(('/', '..', '../../x', '\0', 'hf:', 'timm/', 'torchvision/', '-1', '~', 'nan', '💥'))

def test_arguments_of_the_command(many, tmp_path, monkeypatch):
    "None of these arguments, of which one is always wrong, may end in a traceback or in a file that was not asked for."
    (here := tmp_path / 'here').mkdir(); monkeypatch.chdir(here)
    x, y = RNG.integers(0, 256, (10, 32, 32, 3), np.uint8), np.arange(10)
    np.savez(tmp_path / 'tiny.npz', x_train=x, y_train=y, x_test=x, y_test=y)
    def attempt(drawn):
        bad, args = drawn
        args = {**args, 'data': str(tmp_path / 'tiny.npz'), bad: f'nowhere{args.get(bad, "")}'}
        err = io.StringIO()
        with nothing_new(tmp_path), contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
            try: eva_cam_report(**args)
            except SystemExit as e: assert e.code == 2
            else: raise AssertionError(f'it took {args}')
        assert err.getvalue().count('\n') == 1, err.getvalue()
    words = dict(weights=WORD, arch=WORD, layer=WORD, method=WORD, out=WORD, against=WORD)
    fuzz(many, st.tuples(st.sampled_from(('data', 'weights', 'against', 'layer', 'method')), st.fixed_dictionaries({}, optional=words)), attempt)

def test_an_archive_that_would_fill_the_memory(tmp_path, monkeypatch):
    from eva_cam import data
    monkeypatch.setattr(data, 'MOST_BYTES', 10**6)
    np.savez_compressed(tmp_path / 'bomb.npz', **{k: np.zeros(10**6, np.uint8) for k in ('x_train', 'y_train', 'x_test', 'y_test')})
    assert (tmp_path / 'bomb.npz').stat().st_size < 10_000
    with pytest.raises(ValueError, match='would unpack to'): load_data(tmp_path / 'bomb.npz')

def test_an_image_of_a_hundred_thousand_pixels_a_side(tmp_path):
    "A PNG of 49 bytes that says how large it is; nobody may believe it."
    import struct, zlib
    def chunk(kind, body): return struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))
    for c in ('cat', 'dog'): (tmp_path / 'in' / c).mkdir(parents=True)
    Image.new('RGB', (9, 7)).save(tmp_path / 'in/cat/good.png')
    (tmp_path / 'in/dog/bad.png').write_bytes(b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', 100_000, 100_000, 8, 2, 0, 0, 0)) + chunk(b'IDAT', zlib.compress(b'')) + chunk(b'IEND', b''))
    with pytest.raises(ValueError, match='bad.png'): load_data(tmp_path / 'in', size=8, cache=False)

def test_names_of_classes_stay_inside(tmp_path):
    "Class names and a data set's name with paths in them write nothing beyond the folder."
    from eva_cam.html import write_report
    ds = ImageSet(RNG.integers(0, 256, (4, 8, 8, 3), np.uint8), [0, 1, 0, 1], ['../../evil', '<b>/etc/passwd</b>'], name='../..', split='test')
    z = np.array([[1, 2], [2, 1], [1, 0], [0, 1]], np.float32)
    interp = Interpretation(ds, z, np.array([0, 1]), RNG.normal(size=(2, 2, 4, 4)).astype(np.float32), meta=dict(layer='l', method='gradcam', mean=[.5] * 3, std=[.2] * 3))
    out = tmp_path / 'out'; out.mkdir()
    page = write_report(interp, out / 'r.html').read_text(encoding='utf-8'); interp.save(out / 'kept')
    assert '<b>/etc' not in page and sorted(p.name for p in tmp_path.iterdir()) == ['out'] and sorted(p.name for p in out.rglob('*')) == ['kept', 'manifest.json', 'pixels.npz', 'r.html', 'results.npz']
