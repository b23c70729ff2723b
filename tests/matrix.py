"""Install the wheel on every Python and beside every version that people bring, and try it there.

    python tests/matrix.py                  # every row: fresh environments, 4 to 10 minutes and 6 GB each, one after another
    python tests/matrix.py --only lowest    # some rows
    python tests/matrix.py --all            # with every notebook instead of the six that touch other libraries most

A row makes an environment with nothing but pip, installs what somebody already has there, then the wheel, and asks: does pip agree with
itself, is an installed torch still the same, is there any development tool, is `import eva_cam` quick and silent, does `eva_cam_report`
write its page, do the notebooks run? The answers go to tests/matrix.json and into the table of CONTRIBUTING.md.
"""
import argparse, configparser, json, os, re, shutil, subprocess, sys, tempfile, time
from pathlib import Path
import notebooks
from conftest import ROOT, build_wheel

BOOKS = '00b_augment 01_models 01f_learner 03_lr_find 04_gradcam 05_report'.split()  # albumentations, torchvision, torch, scipy, ipywidgets
TOOLS = 'nbdev execnb pytest jupyterlab hypothesis grad-cam torchcam'.split()
IMPORT = 'import torch, time; t = time.perf_counter(); import eva_cam; print(time.perf_counter() - t)'

def bounds():
    "The lower bound of each requirement in settings.ini."
    cfg = configparser.ConfigParser(delimiters=['=']); cfg.read(ROOT / 'settings.ini', encoding='utf-8')
    return dict(r.split('>=') for r in cfg['DEFAULT']['requirements'].split())

# name: (Python, what is there before the wheel comes)
ROWS = {
    'lowest': ('3.10', [f'{k}=={v}' for k, v in bounds().items()]),
    'newest on 3.10': ('3.10', []),
    'albumentations 1.4, fastcore 1': ('3.11', ['albumentations<2', 'fastcore<2']),
    'torch already there': ('3.12', ['torch==2.6.0', 'torchvision==0.21.0', 'numpy<2.1']),
    'full OpenCV': ('3.12', ['opencv-python<5']),
    'newest on 3.13': ('3.13', []),
}

def interpreter(version):
    "A Python of that version: on the path, or one that pyenv keeps."
    found = [shutil.which(f'python{version}'), *sorted(map(str, Path.home().glob(f'.pyenv/versions/{version}.*/bin/python')))]
    return next((p for p in found if p and subprocess.run([p, '-c', 'import venv, ensurepip'], capture_output=True).returncode == 0), None)

def sh(*cmd, **kw):
    r = subprocess.run([str(c) for c in cmd], text=True, capture_output=True, timeout=1800, **kw)
    if r.returncode: raise RuntimeError((r.stderr.strip() or r.stdout.strip()).splitlines()[-1][:300])
    return r.stdout

def versions(py): return {d['name'].lower().replace('-', '_'): d['version'] for d in json.loads(sh(py, '-m', 'pip', 'list', '--format=json'))}

def try_row(name, wheel, books):
    "What the row found; raises RuntimeError with the last line of whatever failed."
    version, before = ROWS[name]
    python = interpreter(version)
    if not python: raise RuntimeError(f'no Python {version} on this machine')
    with tempfile.TemporaryDirectory() as tmp:
        sh(python, '-m', 'venv', f'{tmp}/env'); py = Path(tmp, 'env/bin/python')
        if before: sh(py, '-m', 'pip', 'install', '-q', *before)
        had = {k: v for k, v in versions(py).items() if k not in ('pip', 'setuptools')}
        sh(py, '-m', 'pip', 'install', '-q', wheel); sh(py, '-m', 'pip', 'check')
        have = versions(py)
        moved = {k: (v, have.get(k)) for k, v in had.items() if have.get(k) != v}
        if moved: raise RuntimeError(f'the wheel changed what was there: {moved}')
        if tools := [t for t in TOOLS if t in have]: raise RuntimeError(f'the wheel brought {tools}')
        env = {**os.environ, 'OMP_NUM_THREADS': '1', 'MPLBACKEND': 'Agg', 'HOME': tmp, 'http_proxy': 'http://127.0.0.1:9', 'https_proxy': 'http://127.0.0.1:9', 'PYTHONPATH': ''}
        seconds = min(float(sh(py, '-W', 'error::UserWarning', '-c', IMPORT, cwd=tmp, env=env)) for _ in range(4))
        if seconds >= 0.3: raise RuntimeError(f'import eva_cam takes {seconds:.2f} s on top of torch')
        sh(py.parent / 'eva_cam_report', cwd=tmp, env=env)
        if not list(Path(tmp).glob('*.html')): raise RuntimeError('eva_cam_report left no page')
        for b in books:
            if wrong := notebooks.run(b, python=py, env=env, seconds=1200): raise RuntimeError(f'{b.stem}: {wrong}')
    return dict(python=version, import_seconds=round(seconds, 3), notebooks=len(books), versions={k: have[k.replace('-', '_')] for k in bounds()} | {k: have[k] for k in ('opencv_python',) if k in have})

def table(rows):
    "The rows as a table in Markdown."
    cols = 'torch numpy albumentations fastcore opencv-python-headless'.split()
    out = ['| environment | Python | torch | numpy | albumentations | fastcore | OpenCV | import | notebooks |', '|---|---|---|---|---|---|---|---|---|']
    for n, r in rows.items():
        full = f", full {r['versions']['opencv_python']}" if 'opencv_python' in r['versions'] else ''
        out.append(f"| {n} | {r['python']} | {' | '.join(r['versions'][c].split('+')[0] for c in cols)}{full} | {r['import_seconds']:.2f} s | {r['notebooks']} run |")
    return '\n'.join(out)

def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--only', nargs='+', choices=list(ROWS), default=list(ROWS)); ap.add_argument('--all', action='store_true')
    a = ap.parse_args()
    books = [p for p in notebooks.LESSONS if a.all or p.stem in BOOKS]
    kept = ROOT / 'tests/matrix.json'
    found, failed = json.loads(kept.read_text(encoding='utf-8')) if kept.exists() else {}, []
    with tempfile.TemporaryDirectory() as dist:
        wheel = build_wheel(dist)
        for name in a.only:
            start = time.time()
            try: found[name] = try_row(name, wheel, books)
            except RuntimeError as e: failed.append(name); found.pop(name, None); print(f'{name}: FAILED: {e}', flush=True); continue
            print(f'{name}: holds ({time.time() - start:.0f} s)', flush=True)
    found = {n: found[n] for n in ROWS if n in found}
    kept.write_text(json.dumps(found, indent=1) + '\n', encoding='utf-8')
    page = ROOT / 'CONTRIBUTING.md'; text = page.read_text(encoding='utf-8')
    page.write_text(re.sub(r'(<!-- matrix -->\n).*?(<!-- /matrix -->)', lambda m: f"{m[1]}{table(found)}\n{m[2]}", text, flags=re.S), encoding='utf-8')
    print(f'{len(a.only) - len(failed)} rows hold, {len(failed)} failed'); sys.exit(bool(failed))

if __name__ == '__main__': main()
