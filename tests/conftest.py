"What the tests share: the project's root, its settings, and its notebooks."
import configparser, importlib.util, shutil, subprocess, sys, tempfile
from pathlib import Path
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(Path(__file__).resolve().parent))

def pytest_addoption(parser):
    parser.addoption('--long', action='store_true', help='run the long proofs too')

def pytest_configure(config): config.addinivalue_line('markers', 'long: a proof that takes minutes; runs with --long')

def pytest_collection_modifyitems(config, items):
    if config.getoption('--long'): return
    for item in items:
        if 'long' in item.keywords: item.add_marker(pytest.mark.skip(reason='a long proof: run with --long'))

def benchmark(name):
    "benchmarks/NAME.py as a module."
    spec = importlib.util.spec_from_file_location(f'benchmark_{name}', ROOT / f'benchmarks/{name}.py')
    module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)
    return module

def tracked(out):
    "Copy what git tracks into the folder `out`: a project as somebody clones it."
    for f in subprocess.run(['git', 'ls-files'], cwd=ROOT, text=True, capture_output=True, check=True).stdout.splitlines():
        if not (ROOT / f).is_file(): continue
        (out / f).parent.mkdir(parents=True, exist_ok=True); shutil.copy2(ROOT / f, out / f)
    return out

def build_wheel(out):
    "The wheel of what git tracks, so that a forgotten file is missed; written into the folder `out`."
    with tempfile.TemporaryDirectory() as tmp:
        r = subprocess.run([sys.executable, '-m', 'build', '--wheel', '--outdir', str(out), str(tracked(Path(tmp, 'eva_cam')))], text=True, capture_output=True)
    assert r.returncode == 0, r.stderr[-2000:]
    return next(Path(out).glob('*.whl'))

@pytest.fixture(scope='session')
def root(): return ROOT

@pytest.fixture(scope='session')
def settings():
    "settings.ini as a dict, without the interpolation of paths."
    cfg = configparser.ConfigParser(delimiters=['=']); cfg.read(ROOT / 'settings.ini', encoding='utf-8')
    return dict(cfg['DEFAULT'])
