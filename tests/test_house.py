"The notebooks, the package and the README are one thing said three ways; these tests hold them together."
import filecmp, re, subprocess, sys
from pathlib import Path
import nbformat, pytest
from conftest import ROOT, tracked

NOTEBOOKS = sorted(p for p in (ROOT / 'nbs').rglob('*.ipynb') if not any(q.startswith(('.', '_')) for q in p.relative_to(ROOT).parts))
LESSONS = [p for p in NOTEBOOKS if re.match(r'\d\d', p.name)]
IDS = lambda p: p.name
EXPORTED = re.compile(r'^#\|\s*(export|exporti)\b', re.M)

def read(path): return nbformat.read(path, 4)
def code_lines(cell): return [l for l in cell.source.splitlines() if l.strip() and not l.startswith('#|')]

@pytest.fixture(scope='module')
def copy(tmp_path_factory):
    "A copy of what git tracks, to be changed at will."
    return tracked(tmp_path_factory.mktemp('copy') / 'eva_cam')

def test_there_are_notebooks(): assert [p.name[:2] for p in LESSONS if p.name[2] == '_'] == ['00', '01', '02', '03', '04', '05']

def test_export_changes_nothing(copy):
    before = {p.name: p.read_text(encoding='utf-8') for p in (copy / 'eva_cam').glob('*.py')}
    subprocess.run([Path(sys.executable).parent / 'nbdev_export'], cwd=copy, check=True)
    after = {p.name: p.read_text(encoding='utf-8') for p in (copy / 'eva_cam').glob('*.py')}
    assert sorted(before) == sorted(after)
    assert [n for n in before if before[n] != after[n]] == []

def test_every_module_has_its_notebook():
    said = {m[1] for p in NOTEBOOKS for c in read(p).cells if (m := re.search(r'^#\|\s*default_exp\s+(\S+)', c.source, re.M))}
    assert {p.stem for p in (ROOT / 'eva_cam').glob('*.py')} - {'__init__', '_modidx'} == said

@pytest.mark.parametrize('path', NOTEBOOKS, ids=IDS)
def test_clean_changes_nothing(copy, path):
    twin = copy / path.relative_to(ROOT); before = twin.read_bytes()
    subprocess.run([Path(sys.executable).parent / 'nbdev_clean', '--fname', twin], cwd=copy, check=True)
    assert twin.read_bytes() == before, 'run python .ci/render.py on it'

@pytest.mark.parametrize('path', NOTEBOOKS, ids=IDS)
def test_outputs_say_nothing_of_the_machine(path):
    nb = read(path)
    assert 'widgets' not in nb.metadata
    for i, c in enumerate(nb.cells):
        for o in c.get('outputs', []):
            data = o.get('data', {})
            assert o.get('name') != 'stderr' and o.output_type != 'error', f'cell {i} shows an error stream'
            assert not any('widget' in k for k in data), f'cell {i} keeps a widget'
            text = str(o.get('text', '')) + ''.join(str(v) for k, v in data.items() if not k.startswith('image/'))
            assert not re.search(r'/(?:tmp|root|home|usr|opt)/|Warning:', text), f'cell {i} shows a path or a warning'

@pytest.mark.parametrize('path', NOTEBOOKS, ids=IDS)
def test_a_notebook_shows_what_it_computes(path): assert any(c.get('outputs') for c in read(path).cells)

@pytest.mark.parametrize('path', LESSONS, ids=IDS)
def test_a_lesson_keeps_its_budget(path):
    nb = read(path); words = lines = 0
    assert len(nb.cells) <= 80 and path.stat().st_size <= 300_000
    assert re.match(rf'# {path.stem.split("_")[0]} \S', nb.cells[0].source) and '\n> ' in nb.cells[0].source + '\n' + nb.cells[1].source
    for i, c in enumerate(nb.cells):
        if c.cell_type == 'markdown': words += len(c.source.split()); continue
        n = len(code_lines(c)); lines += n
        assert n <= (30 if EXPORTED.search(c.source) else 10), f'cell {i} has {n} lines'
        assert not re.search(r'^\s*(import|from) nbdev|nbdev_export', c.source, re.M), f'cell {i} needs nbdev'
    assert 2.5 <= words / lines <= 6, f'{words / lines:.2f} words of prose a line of code'

@pytest.mark.parametrize('path', [p for p in NOTEBOOKS if p.name != 'index.ipynb'], ids=IDS)
def test_badge_points_at_this_notebook(path, settings):
    text = '\n'.join(c.source for c in read(path).cells[:4] if c.cell_type == 'markdown')
    where = f"https://colab.research.google.com/github/{settings['user']}/{settings['repo']}/blob/{settings['branch']}/{path.relative_to(ROOT).as_posix()}"
    assert where in text
    install = next(c.source for c in read(path).cells if c.cell_type == 'code')
    assert 'eval: false' in install and settings['git_url'] in install

def test_readme_is_up_to_date(): subprocess.run([sys.executable, ROOT / '.ci/readme.py', '--check'], check=True)

def test_lower_bounds_are_versions_that_were_tried(settings):
    "What settings.ini promises is what tests/matrix.py installed in its first row, and CONTRIBUTING shows that table."
    import json, matrix
    rows, bounds = json.loads((ROOT / 'tests/matrix.json').read_text(encoding='utf-8')), matrix.bounds()
    same = lambda a, b: re.sub(r'(\.0)+$', '', a.split('+')[0]) == re.sub(r'(\.0)+$', '', b)
    assert {k for k, v in bounds.items() if not same(rows['lowest']['versions'][k], v)} == set()
    assert set(rows) == set(matrix.ROWS) and matrix.table(rows) in (ROOT / 'CONTRIBUTING.md').read_text(encoding='utf-8')

def test_one_quarto_file(): assert filecmp.cmp(ROOT / '_quarto.yml', ROOT / 'nbs/_quarto.yml', shallow=False)

def test_nothing_of_the_machine_is_committed():
    hits = subprocess.run(['git', 'grep', '-nIE', r'(^|[^a-zA-Z0-9_.])/(work|root|farm)/|/home/[a-z]+/', '--', '.', ':!tests/test_house.py', ':!.ci'], cwd=ROOT, text=True, capture_output=True)
    assert (hits.returncode, hits.stdout, hits.stderr) == (1, '', '')  # git grep's word for nothing found; anything above is an error

def test_each_answer_to_a_mutant_is_of_a_line_that_stands():
    "An answer to a line that has changed since would never be asked for again."
    import json
    lines = {p.stem: {l.strip() for c in read(p).cells if c.cell_type == 'code' and EXPORTED.search(c.source) for l in c.source.splitlines()} for p in LESSONS}
    answers = json.loads((ROOT / 'tests/mutants.json').read_text(encoding='utf-8'))
    assert [k for k in answers if k.split(': ', 1)[1] not in lines[k.split()[0]]] == []
