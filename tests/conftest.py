"What the tests share: the project's root, its settings, and its notebooks."
import configparser, sys
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

@pytest.fixture(scope='session')
def root(): return ROOT

@pytest.fixture(scope='session')
def settings():
    "settings.ini as a dict, without the interpolation of paths."
    cfg = configparser.ConfigParser(delimiters=['=']); cfg.read(ROOT / 'settings.ini', encoding='utf-8')
    return dict(cfg['DEFAULT'])
