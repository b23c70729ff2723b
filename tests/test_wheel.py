"The built wheel, in a fresh environment that has nothing but pip: what somebody gets who never sees this repository."
import os, re, shutil, subprocess, time, venv, zipfile
from concurrent.futures import ThreadPoolExecutor
import pytest
from conftest import ROOT, build_wheel

def sh(*cmd, **kw): return subprocess.run([str(c) for c in cmd], text=True, capture_output=True, timeout=1200, **kw)

@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    return build_wheel(tmp_path_factory.mktemp('dist'))

@pytest.fixture(scope='module')
def fresh(wheel, tmp_path_factory):
    "The bin folder of a fresh environment with the wheel in it."
    env = tmp_path_factory.mktemp('fresh') / 'env'
    venv.create(env, with_pip=True)
    r = sh(env / 'bin/python', '-m', 'pip', 'install', '-q', wheel); assert r.returncode == 0, r.stderr[-2000:]
    yield env / 'bin'
    shutil.rmtree(env)

@pytest.fixture
def offline(tmp_path):
    "Environment variables with which any attempt to reach the network fails."
    return {**os.environ, 'http_proxy': 'http://127.0.0.1:9', 'https_proxy': 'http://127.0.0.1:9', 'HOME': str(tmp_path), 'PYTHONWARNINGS': 'error::DeprecationWarning:eva_cam'}

def test_wheel_holds_what_ships(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {'eva_cam/samples/fast.safetensors', 'eva_cam/samples/DATA.md', 'eva_cam/samples/MODEL_CARD.md'} <= names
    assert any(n.startswith('eva_cam/samples/') and n.endswith('.webp') for n in names) and any(n.startswith('eva_cam/templates/') for n in names)
    assert not any('__pycache__' in n or n.startswith(('tests/', 'nbs/')) for n in names)
    assert sum(i.file_size for i in zipfile.ZipFile(wheel).infolist() if i.filename.endswith('.webp')) < 6_000_000
    assert zipfile.ZipFile(wheel).getinfo('eva_cam/samples/fast.safetensors').file_size <= 5_000_000

def test_install_brings_no_development_tool(fresh):
    have = sh(fresh / 'python', '-m', 'pip', 'list', '--format=freeze').stdout.lower()
    assert 'torch==' in have and not any(f'{t}==' in have for t in ('nbdev', 'execnb', 'pytest', 'notebook', 'jupyterlab', 'grad-cam', 'torchcam', 'captum'))

def test_every_module_imports_quickly_and_silently(fresh, tmp_path, offline):
    code = ("import torch, numpy, random, warnings, os, locale, time, pkgutil, sys\n"
            "def settings(): return (torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled(), torch.initial_seed(), torch.get_rng_state().tolist(), random.getstate(),\n"
            "    str(numpy.random.get_state()), numpy.get_printoptions(), numpy.geterr(), str(warnings.filters), dict(os.environ), locale.getlocale(), torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision())\n"
            "before = settings(); t = time.perf_counter(); import eva_cam; t = time.perf_counter() - t\n"
            "for m in pkgutil.iter_modules(eva_cam.__path__): __import__(f'eva_cam.{m.name}')\n"
            "assert settings() == before; assert t < 0.3, t; assert not {'albumentations', 'matplotlib.pyplot', 'pandas'} & set(sys.modules), 'heavy at import'")
    r = sh(fresh / 'python', '-W', 'error::UserWarning', '-c', code, cwd=tmp_path, env=offline)
    assert (r.returncode, r.stdout, r.stderr) == (0, '', '')

def test_the_main_job_runs_offline_and_names_its_report(fresh, tmp_path, offline):
    start = time.perf_counter()
    r = sh(fresh / 'eva_cam_report', cwd=tmp_path, env=offline); assert r.returncode == 0, r.stderr
    assert time.perf_counter() - start < 60
    page = tmp_path / re.search(r'\S+\.html', r.stdout.strip().splitlines()[-1])[0]
    text = page.read_text(encoding='utf-8')
    assert page.suffix == '.html' and 100_000 < page.stat().st_size < 5_000_000 and 'http://' not in text.replace('http://www.w3.org', '')
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.startswith('.')) == [page.name], 'something was left behind'

def test_every_notebook_runs_with_the_wheel_alone(fresh, tmp_path, offline):
    "As somebody does who opens them: each cell in a real kernel, none of the development tools there but those that run a notebook."
    r = sh(fresh / 'python', '-m', 'pip', 'install', '-q', 'nbconvert', 'ipykernel'); assert r.returncode == 0, r.stderr[-2000:]
    shutil.copytree(ROOT / 'nbs', tmp_path / 'nbs', ignore=shutil.ignore_patterns('.*'))
    env = {**offline, 'OMP_NUM_THREADS': '1', 'PATH': f'{fresh}:{os.environ["PATH"]}', 'JUPYTER_PREFER_ENV_PATH': '1'}
    def run(nb):
        r = sh(fresh / 'python', '-m', 'nbconvert', '--to', 'notebook', '--execute', '--inplace', '--ExecutePreprocessor.timeout=600', nb.name, cwd=nb.parent, env=env)
        return f'{nb.name}: {r.stderr[-1500:]}' if r.returncode else None
    books = sorted(p for p in (tmp_path / 'nbs').rglob('*.ipynb'))
    with ThreadPoolExecutor(2) as pool: failed = [f for f in pool.map(run, books) if f]
    assert len(books) >= 25 and not failed, '\n'.join(failed)

@pytest.mark.parametrize('args,word', [
    (['eva_cam_report', '--data', 'nowhere.npz'], 'nowhere.npz'), (['eva_cam_report', '--weights', 'none.safetensors'], 'none.safetensors'),
    (['eva_cam_report', '--weights', 'cut.safetensors'], 'cut.safetensors'), (['eva_cam_report', '--data', 'junk.npz'], 'junk.npz'),
    (['eva_cam_report', '--out', 'missing/dir/r.html'], 'missing'), (['eva_cam_report', '--out', 'junk.npz/r.html'], 'junk.npz'),
    (['eva_cam_train', '--recipe', 'nonesuch'], 'nonesuch')], ids=lambda a: ' '.join(a) if isinstance(a, list) else None)
def test_bad_input_is_one_line_and_leaves_nothing(fresh, tmp_path, offline, args, word):
    (tmp_path / 'junk.npz').write_bytes(b'PK\x03\x04 no archive'); site = next((fresh.parent / 'lib').glob('python*')) / 'site-packages'
    (tmp_path / 'cut.safetensors').write_bytes((site / 'eva_cam/samples/fast.safetensors').read_bytes()[:100_000])
    before = sorted(p.name for p in tmp_path.rglob('*'))
    r = sh(fresh / args[0], *args[1:], cwd=tmp_path, env=offline)
    assert r.returncode == 2 and word in r.stderr and len(r.stderr.strip().splitlines()) == 1 and 'Traceback' not in r.stderr
    assert [n for n in sorted(p.name for p in tmp_path.rglob('*')) if n not in before and not n.startswith('.')] == []
