"Install, look at the house, run the README's test command, then the other tests; end with one line of counts."
import re, shlex, subprocess, sys, time
import xml.etree.ElementTree as ET
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

def readme_command(word):
    "The shell line of README.md that holds `word`."
    blocks = re.findall(r'```sh\n(.*?)```', (ROOT / 'README.md').read_text(encoding='utf-8'), re.S)
    lines = [l for b in blocks for l in b.splitlines() if word in l]
    if len(lines) != 1: sys.exit(f'README.md has {len(lines)} commands with {word!r}; there must be exactly one')
    return lines[0]

def sh(cmd):
    "Run `cmd`, show and return its output with its exit code."
    print(f'\n$ {cmd}', flush=True); start, out = time.time(), []
    with subprocess.Popen(['bash', '-c', cmd], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as p:
        for line in p.stdout: print(line, end='', flush=True); out.append(line)
    print(f'[{time.time() - start:.0f} s, exit {p.returncode}]', flush=True)
    return p.returncode, ''.join(out)

def notebooks():
    "Notebooks that nbdev_test runs: every one whose path has no part that starts with . or _."
    return [p for p in (ROOT / 'nbs').rglob('*.ipynb') if not any(q.startswith(('.', '_')) for q in p.relative_to(ROOT).parts)]

def tested(what):
    "Run pytest on `what`; gives how many passed, failed and were skipped."
    report = ROOT / '.ci/env/pytest.xml'
    report.unlink(missing_ok=True)
    code, _ = sh(f'{shlex.quote(sys.executable)} -m pytest -q -rs --durations=8 --junitxml={shlex.quote(str(report))} {what}')
    if not report.exists(): print('pytest left no report'); return 0, 1, 0
    suite = ET.parse(report).getroot().find('testsuite').attrib
    n, failed, skipped = int(suite['tests']), int(suite['failures']) + int(suite['errors']), int(suite['skipped'])
    broken = n == skipped or (code and not failed)
    if broken: print('pytest tested nothing or broke off')
    return n - failed - skipped, failed + broken, skipped

def nbdev_tested():
    "Run the README's test command; gives how many notebooks passed, failed and were skipped (none)."
    code, out = sh(readme_command('nbdev_test'))
    n, bad = len(notebooks()), len(set(re.findall(r'^\s*(\S+\.ipynb)', out.partition('Tests Failed On')[2], re.M)))
    if code == 0 and 'Success.' in out: return n, 0, 0   # nbdev_test exits 0 when its path matches nothing, so its closing word counts
    return max(0, n - max(bad, 1)), max(bad, 1), 0

def main():
    "The house first: clean notebooks, an export that changes nothing, a README that is up to date."
    if sh("pip install -q -e '.[dev]'")[0]: print('the installation failed\n0 passed, 1 failed'); return 1
    counts = [tested('tests/test_house.py'), nbdev_tested()]
    if sh("pip install -q -e '.[dev,bench]'")[0]: print('the peers could not be installed'); counts.append((0, 1, 0))
    else: counts.append(tested('tests --ignore=tests/test_house.py'))
    passed, failed, skipped = map(sum, zip(*counts))
    if skipped: print(f'{skipped} skipped, for the reasons above')
    print(f'{passed} passed, {failed} failed', flush=True)
    return 1 if failed or not passed else 0

if __name__ == '__main__': sys.exit(main())
