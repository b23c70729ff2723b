"""Break the exported code on purpose and see whether its notebook, or a test, notices.

    python tests/mutation.py                            # 160 mutants spread over the modules: about an hour on two cores
    python tests/mutation.py --n 20 --only 04_gradcam   # some of them

A mutant changes one thing in one exported cell: a comparison, an operator, a number, a flag, a condition. The cell's notebook then runs
top to bottom in a process of its own; if it passes, the tests of TESTS run on a copy of the package with the same change. Not changed are
words, annotations, the text of an exception and arguments that only say how a picture looks (LOOKS). What survives both is listed;
tests/mutants.json answers each survivor: why nobody could notice, or what was tested since. Everything is run once unbroken first.
"""
import argparse, ast, json, os, random, re, resource, shutil, subprocess, sys, tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import notebooks
from conftest import ROOT

GOAL = 0.85
ANSWERS = ROOT / 'tests/mutants.json'
MEMORY = 12 << 30  # bytes a process may take; a mutant that asks for more is killed, too
TESTS = {'00_': ['test_data.py', 'test_fuzz.py'], '00a': ['test_data.py', 'test_fuzz.py'], '01_': ['test_fuzz.py'], '01c': ['test_fuzz.py'], '01e': ['test_recipes.py', 'test_fuzz.py'],
         '01f': ['test_train.py'], '01g': ['test_train.py'], '02_': ['test_train.py', 'test_fuzz.py'], '04_': ['test_untouched.py', 'test_peers.py'], '04a': ['test_peers.py', 'test_untouched.py'],
         '04b': ['test_peers.py'], '04c': ['test_untouched.py'], '05_': ['test_report.py', 'test_fuzz.py'], '05b': ['test_report.py'], '05d': ['test_report.py', 'test_timm.py']}
LOOKS = set('figsize fontsize dpi alpha lw linewidth s color c ls marker rotation pad ha va width height ncol loc zorder labelpad constrained_layout rasterized quality left right top bottom'.split())
SWAP = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
        ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
        ast.Mod: ast.Mult, ast.And: ast.Or, ast.Or: ast.And, ast.USub: ast.UAdd}

def quiet(tree):
    "Ids of the nodes that are left alone."
    parts = []
    for n in ast.walk(tree):
        if isinstance(n, ast.JoinedStr): parts.append(n)
        elif isinstance(n, ast.Raise) and isinstance(n.exc, ast.Call): parts += n.exc.args
        elif isinstance(n, ast.arg): parts.append(n.annotation)
        elif isinstance(n, ast.FunctionDef): parts.append(n.returns)
        elif isinstance(n, ast.AnnAssign): parts.append(n.annotation)
        elif isinstance(n, ast.keyword) and n.arg in LOOKS: parts.append(n.value)
    return {id(m) for p in parts if p for m in ast.walk(p)}

def places(tree):
    "Every change that could be made: (position of the node in ast.walk, what)."
    skip = quiet(tree)
    for i, n in enumerate(ast.walk(tree)):
        if id(n) in skip: continue
        if isinstance(n, ast.Compare) and type(n.ops[0]) in SWAP: yield i, 'compare'
        elif isinstance(n, (ast.BinOp, ast.BoolOp, ast.UnaryOp)) and type(n.op) in SWAP: yield i, 'operator'
        elif isinstance(n, ast.Constant) and type(n.value) is bool: yield i, 'flag'
        elif isinstance(n, ast.Constant) and type(n.value) in (int, float): yield i, 'number'
        elif isinstance(n, (ast.If, ast.IfExp)): yield i, 'condition'

def mutate(source, place):
    "The cell with one change, and the line that changed."
    tree = ast.parse(source)
    i, what = place
    n = list(ast.walk(tree))[i]
    if what == 'compare': n.ops[0] = SWAP[type(n.ops[0])]()
    elif what == 'operator': n.op = SWAP[type(n.op)]()
    elif what == 'number': n.value += 1
    elif what == 'flag': n.value = not n.value
    else: n.test = ast.UnaryOp(ast.Not(), n.test)
    return ast.unparse(ast.fix_missing_locations(tree)), source.splitlines()[n.lineno - 1].strip()

def choose(n, only, seed):
    "`n` mutants, spread over the modules in proportion to the root of the places that each offers."
    rng, books = random.Random(seed), {}
    for path in notebooks.LESSONS:
        if only and path.stem not in only: continue
        here = [(path, c['id'], c['source'], p) for c in notebooks.code_cells(path) if re.match(r'#\|\s*export', c['source']) for p in places(ast.parse(c['source']))]
        if here: rng.shuffle(here); books[path] = here
    whole = sum(len(v)**0.5 for v in books.values())
    return [m for v in books.values() for m in v[:max(1, round(n * len(v)**0.5 / whole))]]

def tests_notice(path, changed):
    "What the tests of the module say of a package in which the cells of `changed` stand; None if they pass."
    tests = TESTS.get(path.name[:3])
    if not tests: return None
    with tempfile.TemporaryDirectory() as tmp:
        shutil.copytree(ROOT / 'eva_cam', f'{tmp}/eva_cam', ignore=shutil.ignore_patterns('__pycache__'))
        for f in Path(tmp, 'eva_cam').glob('*.py'):
            cells = re.split(r'(?m)(?=^# %% )', f.read_text(encoding='utf-8'))
            for i, c in enumerate(cells):
                head = re.match(rf'# %% \.\./nbs/{path.name} #(\S+)\n', c)
                if head and head[1] in changed: cells[i] = head[0] + re.sub(r'from eva_cam\.', 'from .', changed[head[1]]) + '\n\n'
            f.write_text(''.join(cells), encoding='utf-8')
        env = dict(os.environ, PYTHONPATH=tmp, OMP_NUM_THREADS='1')
        try: r = subprocess.run([sys.executable, '-m', 'pytest', '-x', '-q', '-p', 'no:cacheprovider', *(str(ROOT / 'tests' / t) for t in tests)], cwd=tmp, capture_output=True, text=True, timeout=900, env=env)
        except subprocess.TimeoutExpired: return 'the tests never ended'
    return (re.findall(r'^(?:FAILED|ERROR) .*', r.stdout, re.M) or [f'pytest ended with {r.returncode}'])[-1][:160] if r.returncode else None

def judge(m):
    "Whether anything notices the mutant, and what."
    path, cell, source, place = m
    changed, line = mutate(source, place)
    env = dict(os.environ, OMP_NUM_THREADS='1')
    by = notebooks.run(path, {cell: changed}, env=env, seconds=240) or tests_notice(path, {cell: changed})
    return dict(notebook=path.stem, cell=cell, at=place[0], what=place[1], line=line, by=by, changed=changed)

def unbroken(mutants, pool):
    "Stops if a notebook or a test fails as it stands: then nothing could be learnt from mutants."
    books = sorted({m[0] for m in mutants})
    wrong = [f'{p.stem}: {w}' for p, w in zip(books, pool.map(notebooks.run, books)) if w]
    wrong += [f'tests of {p.stem}: {w}' for p in books if (w := tests_notice(p, {}))]
    if wrong: sys.exit('unbroken code fails already: ' + '; '.join(wrong))

def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--n', type=int, default=160); ap.add_argument('--only', nargs='+'); ap.add_argument('--seed', type=int, default=0); ap.add_argument('--workers', type=int, default=2)
    ap.add_argument('--sure', action='store_true', help='the unbroken code is known to pass: do not run it first')
    a = ap.parse_args()
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    answers = json.loads(ANSWERS.read_text(encoding='utf-8')) if ANSWERS.exists() else {}
    mutants, done = choose(a.n, a.only, a.seed), []
    with ThreadPoolExecutor(a.workers) as pool:
        if not a.sure: unbroken(mutants, pool)
        for r in pool.map(judge, mutants):
            done.append(r); print(f"{'killed  ' if r['by'] else 'SURVIVED'}  {r['notebook']} {r['cell']}.{r['at']} {r['what']}: {r['line'][:100]}  {r['by'] or ''}", flush=True)
    count = Counter((r['notebook'], bool(r['by'])) for r in done)
    for nb in sorted({r['notebook'] for r in done}): print(f'{nb:<18} {count[nb, True]:>3} killed, {count[nb, False]:>3} survived')
    alive = [f"{r['notebook']} {r['what']}: {r['line']}" for r in done if not r['by']]
    for k in alive: print(f"survivor  {k}\n          {answers.get(k, 'NOT ANSWERED')}")
    share = 1 - len(alive) / len(done)
    print(f'{len(done)} mutants, {share:.0%} killed (goal {GOAL:.0%}), {sum(k not in answers for k in alive)} survivors without an answer')
    sys.exit(share < GOAL or any(k not in answers for k in alive))

if __name__ == '__main__': main()
