"What is said about the code: every public name is described, the prose comes before the code, and the pages of the site hold together."
import ast, io, json, os, re, subprocess, sys, tokenize, venv
from pathlib import Path
import pytest, yaml
from conftest import ROOT, tracked
from notebooks import LESSONS, code_cells

MODULES = sorted((ROOT / 'eva_cam').glob('[!_]*.py'))
EVENTS = {'before_fit', 'before_batch', 'before_step', 'after_step', 'after_epoch', 'after_stop', 'after_fit', 'forward'}  # described once, where they are called
NARRATIVE = 'too-many-defs long-exported-cell long-example-cell undocumented-export comment-in-example exported-run example-run'.split()

def undescribed(path):
    "What a module's public names leave unsaid: a docstring, a parameter or a result without its comment."
    text = path.read_text(encoding='utf-8'); body = ast.parse(text).body
    said = {t.start[0] for t in tokenize.generate_tokens(io.StringIO(text).readline) if t.type == tokenize.COMMENT}
    public = next((ast.literal_eval(n.value) for n in body if isinstance(n, ast.Assign) and n.targets[0].id == '__all__'), [])
    def look(f, name, method):
        if not ast.get_docstring(f) and f.name != '__init__': yield f'{name} has no docstring'
        args = [a for a in [*f.args.posonlyargs, *f.args.args, f.args.vararg, *f.args.kwonlyargs, f.args.kwarg] if a][method:]
        for a in args:
            if a.end_lineno not in said or sum(b.end_lineno == a.end_lineno for b in args) > 1: yield f'{name}: {a.arg} is not described'
        if f.returns and getattr(f.returns, 'value', 0) is not None and f.returns.end_lineno not in said: yield f'{name}: its result is not described'
    for n in body:
        if isinstance(n, ast.ClassDef) and n.name in public:
            if not ast.get_docstring(n): yield f'{n.name} has no docstring'
            fields = [a for a in n.body if isinstance(a, ast.AnnAssign) and not a.target.id.startswith('_')] if any('dataclass' in ast.unparse(d) for d in n.decorator_list) else []
            yield from (f'{n.name}: {a.target.id} is not described' for a in fields if a.end_lineno not in said)
            for f in n.body:
                if isinstance(f, ast.FunctionDef) and f.name not in EVENTS and (f.name == '__init__' or not f.name.startswith('_')): yield from look(f, f'{n.name}.{f.name}', True)
        elif isinstance(n, ast.FunctionDef) and not n.name.startswith('_'):
            patched = any('patch' in ast.unparse(d) for d in n.decorator_list)
            if patched or n.name in public: yield from look(n, n.name, patched)

@pytest.mark.parametrize('path', MODULES, ids=lambda p: p.stem)
def test_every_public_name_is_described(path): assert list(undescribed(path)) == []

def test_what_is_not_described_is_found(tmp_path):
    (tmp_path / 'm.py').write_text("__all__ = ['f', 'C']\ndef f(a, # said\n  b, c # both\n)->int: return a\nclass C:\n  'Said.'\n  def g(self, x): 'Said.'\n")
    assert list(undescribed(tmp_path / 'm.py')) == ['f has no docstring', 'f: b is not described', 'f: c is not described', 'f: its result is not described', 'C.g: x is not described']

@pytest.mark.parametrize('path', LESSONS, ids=lambda p: p.stem)
def test_every_public_function_is_shown(path):
    "In a cell of its own lesson that is not exported; commands are shown as commands."
    code = [c['source'] for c in code_cells(path)]
    module = next(m[1] for s in code if (m := re.search(r'#\|\s*default_exp\s+(\S+)', s)))
    body = ast.parse((ROOT / f'eva_cam/{module}.py').read_text(encoding='utf-8')).body
    shown = '\n'.join(s for s in code if not re.match(r'#\|\s*export', s))
    public = [n.name for n in body if isinstance(n, ast.FunctionDef) and not n.name.startswith('_') and not any('call_parse' in ast.unparse(d) for d in n.decorator_list)]
    assert [n for n in public if not re.search(rf'\b{n}\b', shown)] == []

def test_ruff_finds_nothing():
    "Errors, unused and undefined names, and traps; not that of a default made by a call, of a function in a loop that is used up in its turn, or of zip."
    rules = ['--select', 'E9,F,B,PLE', '--ignore', 'B008,B023,B905', '--per-file-ignores', 'tests/browser/*.py:F401', '--per-file-ignores', 'tests/browser/*.py:F811']  # pytest finds fixtures by their import
    r = subprocess.run([sys.executable, '-m', 'ruff', 'check', '--isolated', '--no-cache', *rules, 'eva_cam', 'tests', 'benchmarks', '.ci'], cwd=ROOT, text=True, capture_output=True)
    assert r.returncode == 0, r.stdout

def test_the_prose_comes_before_the_code(tmp_path):
    "chkstyle's rules for the narrative find nothing. It wants another fastcore than nbdev 2, so it gets an environment of its own."
    venv.create(tmp_path / 'env', with_pip=True)
    subprocess.run([tmp_path / 'env/bin/python', '-m', 'pip', 'install', '-q', '--disable-pip-version-check', 'fastaistyle==0.0.20'], check=True)
    r = subprocess.run([tmp_path / 'env/bin/chkstyle', '--show-rule', 'nbs'], cwd=ROOT, text=True, capture_output=True)
    assert 'violation(s)' in r.stdout, r.stdout + r.stderr
    assert [l for l in r.stdout.splitlines() if any(f'[{k}]' in l for k in NARRATIVE)] == []

@pytest.fixture(scope='module')
def pages(tmp_path_factory):
    "The notebooks as nbdev hands them to quarto, made in a copy. nbdev would download quarto where none is on the path; making pages needs none."
    copy, path = tracked(tmp_path_factory.mktemp('pages') / 'eva_cam'), tmp_path_factory.mktemp('path')
    (path / 'quarto').write_text('#!/bin/sh\nexit 1\n'); (path / 'quarto').chmod(0o755)
    bin = Path(sys.executable).parent
    r = subprocess.run([bin / 'nbdev_proc_nbs'], cwd=copy, text=True, capture_output=True, env={**os.environ, 'PATH': f'{path}:{bin}:{os.environ["PATH"]}', 'PYTHONPATH': str(copy)})
    assert r.returncode == 0, r.stdout[-1500:] + r.stderr[-1500:]
    return copy / '_proc'

def test_a_page_for_each_notebook(pages):
    assert sorted(p.relative_to(pages) for p in pages.rglob('*.ipynb')) == sorted(p.relative_to(ROOT / 'nbs') for p in (ROOT / 'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts)

def test_links_lead_somewhere(pages, settings):
    "Links between pages, to pictures and to headings; what nbdev links to our own modules; addresses of the repository."
    site = settings['doc_host'].replace('%(user)s', settings['user']) + settings['doc_baseurl'].replace('%(repo)s', settings['repo'])
    home = settings['git_url'].replace('%(user)s', settings['user']).replace('%(repo)s', settings['repo'])
    broken, n = [], 0
    files = {m[1] for p in pages.rglob('*.ipynb') if (m := re.search(r'output-file: ([\w-]+\.html)', p.read_text(encoding='utf-8')))}  # 00_data.ipynb becomes data.html
    for page in sorted(pages.rglob('*.ipynb')):
        for c in json.loads(page.read_text(encoding='utf-8'))['cells']:
            if c['cell_type'] != 'markdown': continue
            for url in re.findall(r'\]\(([^)\s]+)\)|(?:src|href)="([^"]+)"', ''.join(c['source'])):
                url = url[0] or url[1]; n += 1
                if url.startswith(site):
                    if url[len(site):].strip('/').partition('#')[0] not in files | {''}: broken.append(f'{page.name}: {url}')
                    continue
                if m := re.match(rf'{re.escape(home)}/(?:blob|tree|raw)/[^/]+/(.+)', url): there = ROOT / m[1]
                elif url.startswith(('http', '#', 'mailto:', 'data:')): continue
                else: there = page.parent / url.partition('#')[0].replace('.html', '.ipynb')
                if not there.exists(): broken.append(f'{page.name}: {url}')
    assert n > 50 and broken == []

def test_quarto_file_is_one_that_quarto_accepts():
    "The keys and values that quarto's own schema (project.yml, base-website, page navigation) allows, for those that we use."
    q = yaml.safe_load((ROOT / '_quarto.yml').read_text(encoding='utf-8'))
    assert set(q) <= {'project', 'format', 'website', 'metadata-files', 'execute'}
    assert set(q['project']) <= {'title', 'type', 'render', 'execute-dir', 'output-dir', 'lib-dir', 'resources', 'preview', 'pre-render', 'post-render'} and q['project']['type'] == 'website'
    assert set(q['project'].get('preview', {})) <= {'port', 'host', 'browser', 'watch-inputs', 'navigate', 'timeout', 'serve'}
    assert set(q['website']) <= {'title', 'description', 'favicon', 'site-url', 'repo-url', 'repo-branch', 'repo-actions', 'navbar', 'sidebar', 'page-footer', 'search', 'open-graph'}
    assert all(set(i) <= {'href', 'text', 'icon', 'menu', 'aria-label'} for i in q['website']['navbar']['left'])
    assert q['website']['sidebar']['style'] in ('docked', 'floating') and q['website']['sidebar']['contents'] == 'auto'
    html = q['format']['html']
    assert set(html) <= {'theme', 'toc', 'code-copy', 'code-overflow', 'code-fold', 'css'} and html['code-overflow'] in ('scroll', 'wrap') and isinstance(html['toc'], bool)
    assert html['code-copy'] in (True, False, 'hover') and set(html['theme']) <= {'light', 'dark'}
