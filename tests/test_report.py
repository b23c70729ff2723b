"The report beside its peers, and its command as a stranger would misuse it."
import subprocess, sys
from pathlib import Path
import numpy as np, pytest, torch
from eva_cam.next import label_suspects

sys.path.insert(0, str(Path(__file__).resolve().parent / 'browser'))
from made import made, net

def noisy(seed, n=400, C=5):
    "Probabilities of a fair model, and labels of which one in eight is wrong."
    rng = np.random.default_rng(seed)
    y = rng.integers(0, C, n)
    z = rng.normal(0, 1, (n, C)); z[np.arange(n), y] += rng.uniform(1, 4, n)
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    given = np.where(rng.random(n) < 1/8, rng.integers(0, C, n), y)
    return p, given

@pytest.mark.parametrize('seed', range(5))
def test_label_suspects_are_those_of_cleanlab(seed):
    filter = pytest.importorskip('cleanlab.filter', reason='cleanlab is not installed: pip install cleanlab')
    p, y = noisy(seed)
    theirs = filter.find_label_issues(y, p, filter_by='confident_learning', return_indices_ranked_by='self_confidence', n_jobs=1)
    np.testing.assert_array_equal(label_suspects(p, y), theirs)
    assert len(theirs) > 10

def command(*args, cwd):
    return subprocess.run([Path(sys.executable).parent / 'eva_cam_report', *args], cwd=cwd, capture_output=True, text=True)

def weights(path, classes=2):
    from eva_cam.models import save_weights, fast_net
    return save_weights(fast_net(classes), path, dict(arch='fast_net', arch_kw={}, classes=[str(c) for c in range(classes)], mean=(.5,) * 3, std=(.25,) * 3))

@pytest.mark.parametrize('what', ['data', 'corrupt data', 'weights', 'cut weights', 'other classes', 'floats', 'too small', 'layer', 'method', 'folder as file', 'no folder', 'not writable', 'option'])
def test_bad_input_ends_in_one_line_and_code_2(what, tmp_path):
    (tmp_path / 'bad.npz').write_bytes(b'PK nothing')
    whole = weights(tmp_path / 'two.safetensors').read_bytes()
    (tmp_path / 'cut.safetensors').write_bytes(whole[:len(whole) // 2])
    weights(tmp_path / 'ten.safetensors', 10)
    ten = ['--weights', 'ten.safetensors', '--layer', 'block3']
    x, y = np.zeros((20, 8, 8, 3)), np.arange(20) % 10
    np.savez(tmp_path / 'floats.npz', x_train=x, y_train=y, x_test=x, y_test=y)
    np.savez(tmp_path / 'small.npz', x_train=x.astype(np.uint8), y_train=y, x_test=x.astype(np.uint8), y_test=y)
    args = {'data': ['--data', 'nowhere'], 'corrupt data': ['--data', 'bad.npz'], 'weights': ['--weights', 'nowhere.safetensors'], 'cut weights': ['--weights', 'cut.safetensors'],
            'floats': [*ten, '--data', 'floats.npz'], 'too small': [*ten, '--data', 'small.npz'], 'other classes': ['--weights', 'two.safetensors'], 'layer': ['--weights', 'ten.safetensors', '--layer', 'blok3'], 'method': [*ten, '--method', 'gradcamm'],
            'folder as file': [*ten, '--out', '.'], 'no folder': [*ten, '--out', 'none/r.html'], 'not writable': [*ten, '--out', '/proc/r.html'], 'option': ['--colour', 'red']}[what]
    before = sorted(p.name for p in tmp_path.iterdir())
    ended = command(*args, cwd=tmp_path)
    assert ended.returncode == 2 and 'Traceback' not in ended.stderr
    assert what == 'option' or ended.stderr.count('\n') == 1, ended.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == before, 'nothing is left behind'

def test_a_report_that_breaks_off_leaves_the_earlier_one(tmp_path, monkeypatch):
    import eva_cam.html as html
    interp = made(60)
    file = html.write_report(interp, tmp_path / 'r.html')
    earlier = file.read_bytes()
    monkeypatch.setattr(html.os, 'replace', lambda *a: (_ for _ in ()).throw(OSError('disk full')))
    with pytest.raises(OSError): html.write_report(interp, file, title='another')
    assert file.read_bytes() == earlier and [p.name for p in tmp_path.iterdir()] == ['r.html']

@pytest.mark.parametrize('breaks', ['manifest', 'last rename'])
def test_an_interpretation_that_cannot_be_saved_leaves_the_earlier_one(tmp_path, monkeypatch, breaks):
    import eva_cam.report as report
    interp, replace = made(60), report.os.replace
    interp.save(tmp_path / 'kept')
    def full(*a, **kw): raise OSError('disk full')
    if breaks == 'manifest': monkeypatch.setattr(report.json, 'dumps', full)
    else: monkeypatch.setattr(report.os, 'replace', lambda a, b: full() if str(a).endswith('.aside') else replace(a, b))
    with pytest.raises(OSError, match='disk full'): interp.save(tmp_path / 'kept')
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ['kept'] and len(report.load_interpretation(tmp_path / 'kept')) == 60

def test_an_interpretation_that_was_killed_between_two_names_is_not_lost(tmp_path, monkeypatch):
    "The next save finds it under its other name; should that one fail, too, it is still there."
    import eva_cam.report as report
    interp = made(60)
    interp.save(tmp_path / 'kept').rename(tmp_path / '.kept.eva_cam.old')
    with monkeypatch.context() as m, pytest.raises(OSError):
        m.setattr(report.np, 'savez_compressed', lambda *a, **kw: (_ for _ in ()).throw(OSError('disk full')))
        interp.save(tmp_path / 'kept')
    assert [p.name for p in tmp_path.iterdir()] == ['kept'] and len(report.load_interpretation(tmp_path / 'kept')) == 60

def test_a_picture_says_its_format_or_is_refused(tmp_path):
    from eva_cam.report import Picture
    picture = Picture(np.zeros((4, 5, 3), np.uint8), 'black')
    assert picture.save(tmp_path / 'a.png').read_bytes()[1:4] == b'PNG'
    with pytest.raises(ValueError, match='end in .png or .jpg'): picture.save(tmp_path / 'a.xyz')
    assert [p.name for p in tmp_path.iterdir()] == ['a.png']

def test_interpretation_leaves_the_model_as_it_was():
    model = net().train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    from eva_cam.report import interpret
    found = made(60)
    interpret(model, found.ds, found.meta['mean'], found.meta['std'], 'late')
    assert model.training and all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())
    for k, v in model.state_dict().items(): torch.testing.assert_close(v, before[k], rtol=0, atol=0)
    assert all(p.grad is None for p in model.parameters())

class Wordy(torch.nn.Module):
    def forward(self, x): return dict(logits=x.mean((2, 3)))
class Fussy(torch.nn.Module):
    def forward(self, x): assert x.shape[2] == 224, 'Wrong height'
class Shy(torch.nn.Module):
    def forward(self, x): raise AssertionError

@pytest.mark.parametrize('model,words', [(Wordy(), 'returns dict: it must return logits'), (Fussy(), r'cannot take RGB images of 32x32 pixels \(Wrong height\)'), (Shy(), r'pixels \(AssertionError\)'), (torch.nn.Identity(), 'a tensor of 4 dimensions')])
def test_a_model_that_is_no_classifier_of_such_images_is_refused(model, words):
    from eva_cam.data import load_data
    from eva_cam.report import interpret
    ds = load_data('sample').test
    with pytest.raises(ValueError, match=words): interpret(model, ds, (.5,) * 3, (.25,) * 3)
    with pytest.raises(ValueError, match='is empty: there is nothing to report'): interpret(model, ds.subset(np.arange(0)), (.5,) * 3, (.25,) * 3)

def test_a_saved_interpretation_takes_back_its_own_model_only(tmp_path):
    from eva_cam.report import load_interpretation
    found = made(60)
    found.save(tmp_path / 'kept')
    assert load_interpretation(tmp_path / 'kept', net()).explain([0]).raw.shape[:2] == (1, 2)
    with torch.no_grad(): (another := net()).fc.weight.neg_()
    with pytest.raises(ValueError, match='this model is not the one of kept'): load_interpretation(tmp_path / 'kept', another)
    with pytest.raises(ValueError, match='has 3 outputs'): load_interpretation(tmp_path / 'kept', net(3))

def test_maps_that_are_no_pairs_are_refused():
    from eva_cam.report import Interpretation
    found = made(60)
    for maps in (found.maps[1:], found.maps[:, :1], found.maps[0]):
        with pytest.raises(ValueError, match='give one pair a row'): Interpretation(found.ds, found.logits, found.rows, maps)
    with pytest.raises(ValueError, match='give positions from 0 to 59'): Interpretation(found.ds, found.logits, found.rows + 60, found.maps)
    with pytest.raises(ValueError, match='give one row an image'): Interpretation(found.ds, found.logits, found.rows, found.maps, np.ones((5, 2)))

def test_a_folder_of_somebody_else_is_not_replaced(tmp_path):
    found = made(60)
    (tmp_path / 'extension').mkdir(); (tmp_path / 'extension' / 'manifest.json').write_text('{"name": "mine"}')
    kept = found.save(tmp_path / 'kept'); (kept / '.DS_Store').touch(); found.save(kept); (kept / 'view_3.png').write_bytes(b'mine')
    for path in ('extension', 'kept'):
        before = sorted(p.name for p in (tmp_path / path).iterdir())
        with pytest.raises(ValueError, match='is no saved interpretation, or other files lie in it'): found.save(tmp_path / path)
        assert sorted(p.name for p in (tmp_path / path).iterdir()) == before

def test_names_and_split_come_back_as_they_were(tmp_path):
    from eva_cam.data import ImageSet
    from eva_cam.report import Interpretation, load_interpretation
    found = made(60)
    ds = ImageSet(found.ds.x, found.ds.y, np.array(found.ds.classes), name='mine', split='test')
    back = load_interpretation(Interpretation(ds, found.logits, found.rows, found.maps, meta=found.meta).save(tmp_path / 'kept'))
    assert (back.ds.classes, back.ds.split) == (found.ds.classes, 'test')

def test_maps_without_a_place_are_not_grouped():
    "Of one cell, or the same everywhere: what differs between them is rounding."
    from eva_cam.next import map_groups
    rng = np.random.default_rng(0)
    for flat in (rng.random((40, 1, 1)), np.full((40, 4, 4), rng.random((40, 1, 1)))): assert (map_groups(flat.astype(np.float32)) == -1).all()
    some = rng.random((40, 4, 4)); some[3, 0, 0] = np.inf
    assert map_groups(some)[3] == -1 and (np.delete(map_groups(some), 3) >= 0).all()

def test_many_classes_and_many_mistakes_stay_a_page(tmp_path):
    from eva_cam.data import ImageSet
    from eva_cam.html import MOST_CLASSES, MOST_IMAGES, write_report
    from eva_cam.report import Interpretation
    rng = np.random.default_rng(0)
    N, C = 1500, 200
    ds = ImageSet(rng.integers(0, 256, (N, 8, 8, 3), dtype=np.uint8), rng.integers(0, C, N), [f'class {c}' for c in range(C)], name='many')
    logits = rng.normal(size=(N, C)).astype(np.float32)
    rows = np.flatnonzero(logits.argmax(1) != ds.y)
    found = Interpretation(ds, logits, rows, rng.normal(size=(len(rows), 2, 4, 4)).astype(np.float32), meta=dict(layer='l', method='gradcam', mean=(0,) * 3, std=(1,) * 3))
    text = write_report(found, tmp_path / 'many.html').read_text(encoding='utf-8')
    assert f'Shown are {MOST_IMAGES:,} of {len(rows):,} mistakes' in text and f'the {MOST_CLASSES} classes with the most mistakes, of {C}' in text
