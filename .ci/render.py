"Run notebooks top to bottom in a real kernel, keep their outputs, and leave nothing machine-made behind."
import argparse, os, re, sys
from pathlib import Path
import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
FORBIDDEN = re.compile(r'/(?:tmp|root|home|work|usr|opt)/|Warning:')

def outputs_text(nb):
    "Every text an output of `nb` shows, with its cell number."
    for i, c in enumerate(nb.cells):
        for o in c.get('outputs', []):
            yield i, o.get('text', '') or ''
            for k, v in o.get('data', {}).items():
                if not k.startswith('image/'): yield i, v if isinstance(v, str) else str(v)

def render(path):
    "Execute the notebook at `path` in place; refuse stderr, warnings and machine paths in its outputs."
    nb = nbformat.read(path, 4)
    skip = [c for c in nb.cells if c.cell_type == 'code' and re.search(r'^#\|\s*(eval:\s*false|slow|cuda|network)\s*$', c.source, re.M)]
    kept = {id(c): c.source for c in skip}
    for c in skip: c.source = ''
    NotebookClient(nb, timeout=600, kernel_name='python3', store_widget_state=False,
                   resources={'metadata': {'path': str(path.parent)}}).execute()
    for c in skip: c.source = kept[id(c)]
    bad = [f'cell {i}: stderr: {o.text[:300]}' for i, c in enumerate(nb.cells) for o in c.get('outputs', []) if o.get('name') == 'stderr']
    bad += [f'cell {i}: {m.group()} in its output' for i, t in outputs_text(nb) if (m := FORBIDDEN.search(t))]
    if bad: sys.exit(f'{path.name}: ' + '; '.join(bad))
    nb.metadata = {'kernelspec': {'display_name': 'python3', 'language': 'python', 'name': 'python3'}}
    for i, c in enumerate(nb.cells):
        c.metadata, c['id'] = {}, f'c{i:03d}'
        if c.cell_type == 'code':
            c.execution_count = None
            for o in c.outputs:
                if 'execution_count' in o: o.execution_count = None
                o.pop('metadata', None) if o.output_type == 'stream' else o.update(metadata={})
                data = o.get('data', {})
                if 'application/vnd.jupyter.widget-view+json' in data: del data['application/vnd.jupyter.widget-view+json']
    nb.nbformat_minor = 5
    aside = path.with_suffix('.aside')
    aside.write_text(nbformat.writes(nb, indent=1) + '\n', encoding='utf-8')
    os.replace(aside, path)

if __name__ == '__main__':
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument('notebooks', nargs='*', type=Path, help='default: every notebook under nbs/')
    for p in ap.parse_args().notebooks or sorted((ROOT / 'nbs').rglob('*.ipynb')):
        render(p.resolve()); print('rendered', p.name, flush=True)
