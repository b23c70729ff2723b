"The lessons as programs: what a notebook's code cells are, and whether they run top to bottom in a process of their own."
import json, re, subprocess, sys, tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LESSONS = sorted((ROOT / 'nbs').glob('[0-9]*.ipynb'))
SKIPPED = re.compile(r'^#\|\s*(eval:\s*false|network|slow|cuda)', re.M)

# Runs in the process that is started, so it knows only Python, and IPython as the library brings it.
RUNNER = """
import json, sys, matplotlib
matplotlib.use('Agg')
import matplotlib.pyplot as plt
space = dict(__name__='__main__', display=lambda *a, **k: None)
for s in json.load(open(sys.argv[1], encoding='utf-8')): exec(compile(s, '<cell>', 'exec'), space); plt.close('all')  # as a notebook does after each cell
"""

def code_cells(path): return [c | dict(source=''.join(c['source'])) for c in json.loads(path.read_text(encoding='utf-8'))['cells'] if c['cell_type'] == 'code']

def run(path, changed=None, python=sys.executable, env=None, seconds=300):
    "Run the code of a notebook, with the cells of `changed` (id to source) in place of its own; gives the last line of what went wrong, or None."
    sources = [(changed or {}).get(c['id'], c['source']) for c in code_cells(path) if not SKIPPED.search(c['source'])]
    with tempfile.TemporaryDirectory() as tmp:
        cells, runner = Path(tmp, 'cells.json'), Path(tmp, 'runner.py')
        cells.write_text(json.dumps(sources), encoding='utf-8'); runner.write_text(RUNNER, encoding='utf-8')
        try: r = subprocess.run([str(python), str(runner), str(cells)], cwd=path.parent, capture_output=True, text=True, timeout=seconds, env=env)
        except subprocess.TimeoutExpired: return f'it had not ended after {seconds} s'
    return (r.stderr.strip().splitlines() or [f'exit {r.returncode}'])[-1][:200] if r.returncode else None
