"Write README.md from nbs/index.ipynb: prose as it stands, code cells fenced, their text outputs below them."
import argparse, re, sys
from pathlib import Path
import nbformat

ROOT = Path(__file__).resolve().parent.parent
HEAD = '<!-- Made from nbs/index.ipynb by .ci/readme.py: edit the notebook. -->\n'

def links(md):
    "Relative links of the notebook, as seen from the project's root."
    return re.sub(r'(\]\(|src=")(?!https?://|#|mailto:|\.\./)', r'\1nbs/', md).replace('](../', '](').replace('src="../', 'src="')

def outputs(cell):
    "The text a code cell printed or returned; markdown wins over plain text."
    for o in cell.get('outputs', []):
        data = o.get('data', {})
        if 'text/markdown' in data: yield links(data['text/markdown'])
        elif o.output_type == 'stream': yield '```\n' + o.text.rstrip() + '\n```'
        elif 'text/plain' in data: yield '```\n' + data['text/plain'].rstrip() + '\n```'

def readme(nb):
    "The whole README as text."
    parts = [HEAD.rstrip()]
    for c in nb.cells:
        hidden = re.search(r'^#\|\s*hide\s*$', c.source, re.M)
        if c.cell_type == 'markdown': parts.append(links(c.source.strip()))
        elif c.cell_type == 'code' and not hidden:
            code = re.sub(r'^#\|.*\n?', '', c.source, flags=re.M).strip()
            if code and not re.search(r'^#\|\s*echo:\s*false', c.source, re.M): parts.append(f'```python\n{code}\n```')
            parts += outputs(c)
    return '\n\n'.join(parts) + '\n'

if __name__ == '__main__':
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument('--check', action='store_true', help='write nothing; exit 1 when README.md is out of date')
    args = ap.parse_args()
    text, path = readme(nbformat.read(ROOT / 'nbs/index.ipynb', 4)), ROOT / 'README.md'
    if args.check: sys.exit(0 if path.read_text(encoding='utf-8') == text else 'README.md is out of date: run python .ci/readme.py')
    path.write_text(text, encoding='utf-8')
