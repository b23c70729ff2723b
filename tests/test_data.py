"What the cells of 00 and 00a have no room for: archives of arrays as people make them, downloads that break off, and pickles that must not be opened."
import hashlib, http.server, io, pickle, shutil, sys, tarfile, threading, time, types, warnings
from concurrent.futures import ThreadPoolExecutor
import numpy as np, pytest
from torchvision import datasets
from PIL import Image
from eva_cam import data as eva_data
from eva_cam.data import Data, ImageSet, load_data, read_arrays
from eva_cam.sources import download, read_hf

class Flaky(http.server.BaseHTTPRequestHandler):
    "Serves `content`, honours Range, and hangs up after `patience` bytes."
    content, patience, delay, asked = b'', 0, 0, []
    def do_GET(self):
        start = int((self.headers.get('Range') or 'bytes=0-')[6:-1])
        Flaky.asked.append(start)
        time.sleep(self.delay)
        if start and start >= len(self.content): return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header('Content-Length', str(len(self.content) - start))
        self.end_headers()
        self.wfile.write(self.content[start:start + Flaky.patience])
    def log_message(self, *a): pass

@pytest.fixture
def flaky():
    "Address of a server that serves `Flaky.content`."
    Flaky.asked = []
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Flaky)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}/archive'
    server.shutdown()
    server.server_close()

def test_a_broken_download_goes_on_where_it_stopped(flaky, tmp_path):
    Flaky.content, Flaky.patience = np.random.default_rng(0).bytes(300_000), 100_000
    md5, path = hashlib.md5(Flaky.content).hexdigest(), tmp_path/'archive'
    for tries in (1, 2):
        with pytest.raises(ConnectionError, match=f'broke off after {tries}00000 of 300000 bytes'): download(flaky, path, md5)
        assert not path.exists()
    assert download(flaky, path, md5).read_bytes() == Flaky.content
    assert Flaky.asked == [0, 100_000, 200_000] and [p.name for p in tmp_path.iterdir()] == ['archive']

def test_a_part_of_something_else_is_not_kept(flaky, tmp_path):
    Flaky.content, Flaky.patience = b'right'*1000, 10**6
    (tmp_path/'archive.part').write_bytes(b'wrong'*100)
    with pytest.raises(ValueError, match='nothing was kept'): download(flaky, tmp_path/'archive', hashlib.md5(Flaky.content).hexdigest())
    assert not list(tmp_path.iterdir())
    download(flaky, tmp_path/'archive', hashlib.md5(Flaky.content).hexdigest())
    with pytest.raises(ValueError, match='another digest'): download(flaky, tmp_path/'archive', '0'*32)

@pytest.mark.parametrize('more', [0, 7])
def test_a_part_at_least_as_long_as_the_file_is_fetched_anew(more, flaky, tmp_path):
    "A server has nothing from there on and answers 416, for ever."
    Flaky.content, Flaky.patience = b'right'*1000, 10**6
    (tmp_path/'archive.part').write_bytes(b'x'*(5000 + more))
    assert download(flaky, tmp_path/'archive', hashlib.md5(Flaky.content).hexdigest()).read_bytes() == Flaky.content
    assert Flaky.asked == [5000 + more, 0] and [p.name for p in tmp_path.iterdir()] == ['archive']

class Bomb:
    "A pickle that leaves a mark when it is opened."
    def __init__(self, path): self.path = path
    def __reduce__(self): return open, (str(self.path), 'w')

@pytest.fixture
def tiny_cifar(flaky, tmp_path, monkeypatch):
    "CIFAR-100 in the publisher's format, of twelve random images, behind `flaky`."
    rng, files = np.random.default_rng(1), {}
    for name, n in (('train', 8), ('test', 4)): files[name] = dict(data=rng.integers(0, 256, (n, 3072), np.uint8), fine_labels=[0, 1]*(n//2))
    arrays = {k: v['data'].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1) for k, v in files.items()}
    files['meta'] = dict(fine_label_names=['apple', 'bee'])
    packed, archive = {k: pickle.dumps(v) for k, v in files.items()}, io.BytesIO()
    with tarfile.open(fileobj=archive, mode='w:gz') as tar:
        for k, v in packed.items():
            info = tarfile.TarInfo(f'tiny/{k}'); info.size = len(v)
            tar.addfile(info, io.BytesIO(v))
    Flaky.content, Flaky.patience = archive.getvalue(), 10**9
    md5 = {k: hashlib.md5(v).hexdigest() for k, v in packed.items()}
    class Tiny(datasets.CIFAR100):
        base_folder, url, filename, tgz_md5 = 'tiny', flaky, 'tiny.tar.gz', hashlib.md5(Flaky.content).hexdigest()
        train_list, test_list = [['train', md5['train']]], [['test', md5['test']]]
        meta = dict(filename='meta', key='fine_label_names', md5=md5['meta'])
    monkeypatch.setattr(datasets, 'CIFAR100', Tiny)
    return arrays

def test_cifar_is_downloaded_once_and_read(tiny_cifar, tmp_path):
    for _ in range(2):
        data = load_data('cifar100', root=tmp_path)
        assert (data.train.x == tiny_cifar['train']).all() and (data.test.x == tiny_cifar['test']).all()
    assert data.train.classes == ['apple', 'bee'] and data.test.y.tolist() == [0, 1, 0, 1] and Flaky.asked == [0]

def test_a_pickle_with_another_digest_is_never_opened(tiny_cifar, tmp_path):
    load_data('cifar100', root=tmp_path)
    (tmp_path/'tiny'/'train').write_bytes(pickle.dumps(Bomb(tmp_path/'exploded')))
    assert (load_data('cifar100', root=tmp_path).train.x == tiny_cifar['train']).all()
    assert not (tmp_path/'exploded').exists()
    (tmp_path/'tiny.tar.gz').write_bytes(b'not the archive')
    (tmp_path/'tiny'/'test').write_bytes(pickle.dumps(Bomb(tmp_path/'exploded')))
    with pytest.raises(ValueError, match='another digest'): load_data('cifar100', root=tmp_path)
    assert not (tmp_path/'exploded').exists()

@pytest.mark.parametrize('wound', [lambda f: f.unlink(), lambda f: f.write_bytes(b'x')])
def test_damaged_names_of_classes_are_said_with_what_to_delete(wound, tiny_cifar, tmp_path):
    load_data('cifar100', root=tmp_path)
    wound(tmp_path/'tiny'/'meta')
    with pytest.raises(ValueError, match='tiny is damaged .*; delete that folder'): load_data('cifar100', root=tmp_path)
    shutil.rmtree(tmp_path/'tiny')
    assert load_data('cifar100', root=tmp_path).train.classes == ['apple', 'bee'] and Flaky.asked == [0]

def test_cifar10_that_is_not_cifar10_is_refused(tiny_cifar, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, 'CIFAR10', datasets.CIFAR100)
    with pytest.raises(ValueError, match='train pixels are not the published ones'): load_data('cifar10', root=tmp_path)

def test_two_processes_that_ask_at_once_download_once(tiny_cifar, tmp_path, monkeypatch):
    "As those that train together do; one would otherwise take the other's file away."
    monkeypatch.setattr(Flaky, 'delay', 0.3)
    with ThreadPoolExecutor(2) as pool:
        for data in pool.map(lambda _: load_data('cifar100', root=tmp_path / 'new'), range(2)): assert (data.train.x == tiny_cifar['train']).all()
    assert Flaky.asked == [0]

def npz(path, **changed):
    "The data of an .npz of four small images, of which some arrays are changed."
    x, y = np.zeros((4, 8, 8, 3), np.uint8), np.array([0, 1, 0, 1])
    np.savez(path / 'a.npz', **{k: v for k, v in {**dict(x_train=x, y_train=y, x_test=x, y_test=y), **changed}.items() if v is not None})
    return load_data(path / 'a.npz')

@pytest.mark.parametrize('changed, words', [
    (dict(y_train=None), 'lacks y_train'),
    (dict(y_train=np.array([0, 1, 0, np.nan])), 'y_train has the type float64'),
    (dict(y_test=np.array(list('abab'))), 'y_test has the type <U1'),
    (dict(y_train=np.array([0, 1, 0, 2**32 - 1])), 'the label 4294967295, which would make 4,294,967,296 classes'),
    (dict(x_train=np.zeros((4, 192), np.uint8)), r'x_train has shape \(4, 192\)'),
    (dict(x_test=np.zeros((4, 8, 8, 3), np.float32)), 'images must be uint8'),
    (dict(x_test=np.zeros((4, 0, 0, 3), np.uint8)), r'x_test has shape \(4, 0, 0, 3\)'),
    (dict(x_test=np.zeros((4, 8, 9, 3), np.uint8)), 'several sizes: train 8x8, test 8x9; pass size='),
    (dict(classes=np.array('cat')), r'classes must be a row of names, not of shape \(\)'),
    (dict(classes=np.array([.5, 1])), 'classes must be a row of names'),
    (dict(classes=np.array(['cat'])), 'labels lie outside 0..0')])
def test_an_npz_that_does_not_fit_is_refused_by_name(changed, words, tmp_path):
    with pytest.raises(ValueError, match=words): npz(tmp_path, **changed)

def test_names_of_the_classes_of_an_npz(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert npz(tmp_path).train.classes == ['0', '1']
        assert npz(tmp_path, y_train=np.array([1, 2, 1, 2]), classes=np.array(['none', 'cat', 'dog'])).train.classes == ['none', 'cat', 'dog']
        assert npz(tmp_path, classes=np.array([b'cat', 'caf\u00e9'.encode()])).train.classes == ['cat', 'caf\u00e9']
    with pytest.warns(UserWarning, match='no image has the label 0, so 1 of 3 classes are empty'):
        assert npz(tmp_path, y_train=np.array([1, 2, 1, 2]), y_test=np.array([1, 2, 2, 2])).train.counts() == {'0': 0, '1': 2, '2': 2}

def test_wide_images_keep_their_proportions(tmp_path):
    wide = np.zeros((4, 8, 16, 3), np.uint8); wide[:, :, 4:12] = 9
    npz(tmp_path, x_train=wide, x_test=wide)
    assert (load_data(tmp_path / 'a.npz', size=4).train.x == 9).all()

def test_a_stray_archive_does_not_hide_photographs_and_two_are_not_guessed_between(tmp_path):
    for split in ('train', 'test'):
        (tmp_path/split/'cat').mkdir(parents=True); Image.new('RGB', (8, 8)).save(tmp_path/split/'cat'/'a.png')
    np.savez(tmp_path/'embeddings.npz', x=np.ones(3))
    assert load_data(tmp_path, cache=False).test.classes == ['cat']
    npz(tmp_path); assert load_data(tmp_path).train.classes == ['0', '1']; (tmp_path/'a.npz').unlink()  # one that holds splits is meant
    for split in ('train', 'test'): shutil.rmtree(tmp_path/split)
    np.savez(tmp_path/'more.npz', x=np.ones(3))
    with pytest.raises(ValueError, match='has 2 files: embeddings.npz, more.npz; give the path of one'): load_data(tmp_path)

def test_a_sound_archive_is_not_called_damaged(tmp_path, monkeypatch):
    np.savez(path := tmp_path/'a.npz', x=np.ones(3))
    for error, kind, words in ((MemoryError, ValueError, 'more than there is memory for; store fewer'), (PermissionError, PermissionError, None)):
        def fail(*a, **k): raise error
        with monkeypatch.context() as m, pytest.raises(kind, match=words): m.setattr(eva_data.np, 'load', fail); read_arrays(path)

def test_an_archive_whose_directory_leads_nowhere_is_damaged(tmp_path):
    np.savez(path := tmp_path/'a.npz', x=np.ones(3))
    b = bytearray(path.read_bytes()); b[b.rindex(b'PK\5\6') + 17] = 255; path.write_bytes(b)
    with pytest.raises(ValueError, match='is not a readable .npz'): read_arrays(path)

@pytest.mark.parametrize('error', [RuntimeError('Dataset scripts are no longer supported'), KeyError('x')], ids=str)
def test_whatever_the_hub_raises_is_one_line(error, monkeypatch):
    def load(name): raise error
    monkeypatch.setitem(sys.modules, 'datasets', types.SimpleNamespace(load_dataset=load))
    with pytest.raises(ValueError, match=f'hf:some cannot be loaded .{type(error).__name__}'): read_hf('some')

def test_holes_have_the_mean_colour_of_the_images_that_are_learnt_from():
    from eva_cam.compute import Compute
    from eva_cam.data import Pipeline
    from eva_cam.recipes import RECIPES
    from eva_cam.train import learner_for
    dark = ImageSet(np.random.default_rng(0).integers(0, 60, (100, 32, 32, 3), np.uint8), np.arange(100) % 10, list(range(10)))
    r = RECIPES['eva6_custom_onecycle'].change(bs=50, arch_kw=dict(width=4))
    learn = learner_for(r, Data(dark, dark), compute=Compute())
    assert learn.train.pipeline.fill == dark.stats()[0] and learn.recipe.settings() == r.settings()
    holes = (learn.train.batch(0, 0)[0].abs() < 0.05).all(1).sum((1, 2)); assert holes.min() >= 64  # a hole of 8x8 lies wholly inside
    red = r.change(pipeline=Pipeline(pad=4, fill=(1, 0, 0)))
    assert learner_for(red, Data(dark, dark), compute=Compute()).train.pipeline.fill == (1, 0, 0)

def test_one_colour_has_no_spread_and_names_are_words():
    plain = ImageSet(np.full((1000, 59, 59, 3), 255, np.uint8), np.zeros(1000, int), np.array(['cat']))
    assert plain.stats() == ((1., 1., 1.), (0., 0., 0.)) and type(plain.classes[0]) is str
    assert plain.digest() == ImageSet(plain.x, plain.y, ['cat']).digest()
