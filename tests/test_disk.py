"A disk that will not take it: read-only folders, a full disk, and links that lead elsewhere."
import ctypes, os, resource, subprocess, sys
import numpy as np, pytest
from PIL import Image
from eva_cam.data import load_data
from eva_cam.models import write_aside

REPORT, TRAIN = ['eva_cam.html', '--out', '{}/r.html'], ['eva_cam.train', '--recipe', 'fast', '--epochs', '0.1', '--bs', '100', '--out', '{}/run']

def obedient():
    "In the child: root asks for permission like everybody else."
    if os.getuid() == 0: ctypes.CDLL(None).prctl(24, 1)  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE

def full(): resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

def run(args, folder, before):
    module, *rest = [a.format(folder) for a in args]
    return subprocess.run([sys.executable, '-m', module, *rest], cwd=folder, preexec_fn=before, capture_output=True, text=True, timeout=300)

def names(folder): return sorted(str(p.relative_to(folder)) for p in folder.rglob('*'))

@pytest.mark.parametrize('args', [REPORT, TRAIN], ids=['report', 'train'])
def test_a_read_only_folder_is_said_in_one_line(args, tmp_path):
    tmp_path.chmod(0o555)
    try: r = run(args, tmp_path, obedient)
    finally: tmp_path.chmod(0o755)
    assert (r.returncode, r.stderr.count('\n')) == (2, 1) and 'writ' in r.stderr and names(tmp_path) == []

@pytest.mark.parametrize('args', [REPORT, TRAIN], ids=['report', 'train'])
def test_a_full_disk_is_said_in_one_line_and_leaves_nothing_half_written(args, tmp_path):
    (tmp_path / 'r.html').write_text('the earlier report')
    r = run(args, tmp_path, full)
    assert (r.returncode, r.stderr.strip().count('\n')) == (2, 0) and 'File too large' in r.stderr, r.stderr
    assert (tmp_path / 'r.html').read_text() == 'the earlier report'
    assert [n for n in names(tmp_path) if 'aside' in n or n.endswith(('.pt', '.safetensors'))] == []

def test_a_link_is_replaced_and_what_it_led_to_stays(tmp_path):
    precious, link = tmp_path / 'precious', tmp_path / 'out.html'
    precious.write_text('mine'); link.symlink_to(precious)
    write_aside(link, b'report')
    assert precious.read_text() == 'mine' and link.read_bytes() == b'report' and not link.is_symlink()

def test_links_among_images(tmp_path):
    "A linked image is an image like any other; a folder that holds itself ends; a link to nowhere is named."
    kept = tmp_path / 'elsewhere'; kept.mkdir(); Image.fromarray(np.full((8, 8, 3), 7, np.uint8)).save(kept / 'a.png')
    for c in 'cat', 'dog':
        (tmp_path / 'in' / c).mkdir(parents=True); (tmp_path / 'in' / c / f'{c}.png').symlink_to(kept / 'a.png')
    (tmp_path / 'in/cat/again').symlink_to(tmp_path / 'in/cat')
    for cache in False, tmp_path / 'cache':
        ds = load_data(tmp_path / 'in', cache=cache).test
        assert len(ds) == 2 and (ds.x == 7).all() and ds.classes == ['cat', 'dog']
    (tmp_path / 'in/dog/lost.png').symlink_to(tmp_path / 'nowhere.png')
    for cache in False, tmp_path / 'cache':
        with pytest.raises((ValueError, FileNotFoundError), match='lost.png'): load_data(tmp_path / 'in', cache=cache)
        with pytest.warns(UserWarning, match='lost.png'): assert len(load_data(tmp_path / 'in', cache=cache, skip_bad=True).test) == 2

def test_a_cache_that_cannot_be_read_or_written(tmp_path):
    "Read-only, full, or its files damaged: the photographs are read all the same, and nothing half written is left."
    for c in 'cat', 'dog': (tmp_path / 'in' / c).mkdir(parents=True); Image.fromarray(np.full((8, 8, 3), 7, np.uint8)).save(tmp_path / 'in' / c / 'a.png')
    code = 'import sys; from eva_cam.data import load_data; assert (load_data(sys.argv[1], size=200, cache=sys.argv[2]).test.x == 7).all()'
    def said(before=None):
        r = subprocess.run([sys.executable, '-c', code, tmp_path / 'in', tmp_path / 'cache'], preexec_fn=before, capture_output=True, text=True, timeout=300)
        assert r.returncode == 0, r.stderr
        return r.stderr
    assert 'were not kept' in said(full) and names(tmp_path / 'cache') == []
    assert said() == '' and len(names(tmp_path / 'cache')) == 1
    kept = next((tmp_path / 'cache').iterdir()); kept.write_bytes(b''); kept.parent.chmod(0o555)
    try: text = said(obedient)
    finally: kept.parent.chmod(0o755)
    assert f'{kept} is damaged' in text and 'were not kept' in text and names(tmp_path / 'cache') == [kept.name]
    assert 'is damaged' in said() and said() == ''
