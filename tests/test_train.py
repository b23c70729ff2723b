"What a notebook cell cannot try: kill -9 in the middle of a run, Ctrl-C from outside, and two processes beside one."
import json, os, random, signal, subprocess, sys, time
import numpy, pytest, torch
from conftest import ROOT
from eva_cam.checkpoints import newest_checkpoint, read_checkpoint

RUN = '''
import os, sys
from eva_cam.compute import Compute
from eva_cam.callbacks import SaveCheckpoints
from eva_cam.recipes import RECIPES
from eva_cam.train import learner_for
small = RECIPES['best'].change(arch_kw=dict(width=4), bs=int(os.environ['BS']), epochs=1.5, sched=dict(kind='one_cycle', peak=0.5))
learn = learner_for(small, seed=1, compute=Compute(threads=1), cbs=[SaveCheckpoints(sys.argv[1], steps=1)], eval_every=9)
if len(sys.argv) > 2: learn.resume(sys.argv[1])
print('ready', flush=True)
learn.fit()
'''

def start(folder, *args, code=RUN): return subprocess.Popen([sys.executable, '-c', code, str(folder), *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

def wait_for_step(folder, step, p):
    "Wait until the run in `folder` has kept `step` or a later one."
    for _ in range(6000):
        done = [int(f.stem[5:]) for f in folder.glob('ckpt_*.pt')]
        if done and max(done) >= step: return
        if p.poll() is not None: raise AssertionError(p.communicate()[1])
        time.sleep(0.02)
    raise AssertionError(f'no step {step} after two minutes')

@pytest.mark.parametrize('kills,bs', [(4, 50), pytest.param(50, 10, marks=pytest.mark.long)])
def test_kill_leaves_a_whole_checkpoint_and_the_run_ends_on_the_same_bits(tmp_path, monkeypatch, kills, bs):
    monkeypatch.setenv('BS', str(bs))
    through, killed, moments, args = tmp_path / 'through', tmp_path / 'killed', random.Random(kills), ()
    p = start(through); out, err = p.communicate(timeout=300); assert p.returncode == 0, err
    for _ in range(kills):
        done = newest_checkpoint(killed)[1]['step'] if args else 0
        p = start(killed, *args)
        try:
            wait_for_step(killed, done + moments.randint(1, max(1, 3000 // bs // kills - 3)), p)
            time.sleep(moments.uniform(0, 0.08))  # at another moment of the step each time
        finally: p.send_signal(signal.SIGKILL); p.communicate()
        kept = sorted(killed.glob('ckpt_*.pt')); assert kept
        for f in kept: read_checkpoint(f)  # every one of them is whole
        args = ('resume',)
    p = start(killed, 'resume'); out, err = p.communicate(timeout=300); assert p.returncode == 0, err
    a, b = (newest_checkpoint(f)[1] for f in (through, killed))
    assert a['step'] == b['step'] == 3000 // bs and a['losses'] == b['losses']
    for part in ('model', 'cbs'):
        x, y = (s[part] if part == 'model' else s[part]['EMA'] for s in (a, b))
        for k in x: torch.testing.assert_close(y[k], x[k], rtol=0, atol=0)
    assert not list(killed.glob('.*')), 'what a killed writer left aside is cleared away'

@pytest.mark.parametrize('sig', [signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)
def test_a_signal_ends_after_the_step_and_resume_goes_on(tmp_path, sig):
    cmd = [sys.executable, '-m', 'eva_cam.train', '--recipe', 'fast', '--bs', '50', '--epochs', '1', '--out', str(tmp_path / 'run')]
    p = subprocess.Popen(cmd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while 'threads' not in (line := p.stdout.readline()) and 'thread' not in line: assert line, p.communicate()[1]
    time.sleep(1.5); p.send_signal(sig)
    out, err = p.communicate(timeout=120)
    assert p.returncode == 128 + sig and f'stopped by {sig.name} at step' in out and '--resume' in out, out + err
    assert 0 < newest_checkpoint(tmp_path / 'run')[1]['step'] < 40
    r = subprocess.run([*cmd, '--resume'], capture_output=True, text=True, timeout=300)
    assert r.returncode == 0 and 'after 1 epochs' in r.stdout, r.stderr
    assert {'weights.safetensors', 'result.json', 'history.csv'} <= {f.name for f in (tmp_path / 'run').iterdir()}

FLAT = '''
import resource
from eva_cam.compute import Compute
from eva_cam.recipes import RECIPES
from eva_cam.train import learner_for
class Watch:
    def after_step(self, learn):
        if learn.step % 500 == 0: print(int(open('/proc/self/statm').read().split()[1]) * resource.getpagesize(), flush=True)
learner_for(RECIPES['best'].change(arch_kw=dict(width=4), bs=50, epochs=50, grow=()), seed=1, compute=Compute(threads=1), cbs=[Watch()], eval_every=10).fit()
'''

@pytest.mark.long
@pytest.mark.skipif(not os.path.exists('/proc/self/statm'), reason='the memory of a process is read from /proc')
def test_two_thousand_steps_hold_the_memory_flat():
    p = subprocess.run([sys.executable, '-c', FLAT], capture_output=True, text=True, timeout=900); assert p.returncode == 0, p.stderr
    first, *rest = [int(l) for l in p.stdout.split()]
    assert len(rest) == 3 and max(rest) <= 1.01 * first, p.stdout

TWO = '''
import copy, json, os, sys, torch, torch.distributed as dist
from eva_cam.compute import Compute
from eva_cam.recipes import RECIPES
from eva_cam.train import learner_for
r = RECIPES['eva6_layernorm'].change(arch_kw=dict(width=4, norm='layer', pool='max'), bs=61, epochs=0.2, valid=200, clip=0.5, ema=0.9)
def make(): return learner_for(r, seed=2, compute=Compute(dtype='float64', threads=1), micro=13)
learn, seen = make(), [[] for _ in range(6)]
hook = learn.model.register_forward_pre_hook(lambda m, a: seen[learn.step].extend(a[0].sum((1, 2, 3)).tolist()) if m.training else None)
learn.fit(); hook.remove()
again = make().load_state(copy.deepcopy(make().fit(2).state())).fit()
assert again.losses == learn.losses and all(torch.equal(a, b) for m in ('model', 'eval_model') for a, b in zip(getattr(again, m).parameters(), getattr(learn, m).parameters()))
every = [seen]
if learn.world > 1: every = [None] * learn.world; dist.all_gather_object(every, seen)
if learn.rank == 0:
    images = [sorted(round(v, 6) for part in step for v in part) for step in zip(*every)]
    open(sys.argv[1], 'w').write(json.dumps(dict(world=learn.world, images=images, losses=learn.losses, history=learn.history, shares=[len(s[0]) for s in every])))
'''

def test_two_processes_see_the_same_images_and_lose_the_same(tmp_path):
    script = tmp_path / 'two.py'; script.write_text(TWO)
    env = dict(os.environ, OMP_NUM_THREADS='1')
    for n in (1, 2):
        cmd = [sys.executable, script] if n == 1 else [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2', script]
        r = subprocess.run([*map(str, cmd), str(tmp_path / f'{n}.json')], capture_output=True, text=True, timeout=300, env=env); assert r.returncode == 0, r.stderr[-2000:]
    one, two = (json.loads((tmp_path / f'{n}.json').read_text()) for n in (1, 2))
    assert (one['world'], two['world'], one['shares'], two['shares']) == (1, 2, [61], [31, 30])
    assert one['images'] == two['images'] and len(one['losses']) == 6
    torch.testing.assert_close(two['losses'], one['losses'], rtol=0, atol=1e-5)
    for k in ('train_loss', 'train_accuracy', 'valid_loss', 'valid_accuracy', 'test_loss', 'test_accuracy'):
        assert two['history'][-1][k] == pytest.approx(one['history'][-1][k], abs=1e-5), k

TOGETHER = '''
import json, os, signal, sys, torch.distributed as dist
from eva_cam.callbacks import SaveCheckpoints
from eva_cam.lr_find import lr_find
from eva_cam.recipes import RECIPES
from eva_cam.train import learner_for
class OneIsAsked:
    def after_step(self, learn):
        if learn.rank == 1 and learn.step == 3: os.kill(os.getpid(), signal.SIGTERM)
learn = learner_for(RECIPES['eva6_custom_onecycle'].change(arch_kw=dict(width=4), bs=50, epochs=2), cbs=[SaveCheckpoints(sys.argv[1]), OneIsAsked()])
found = lr_find(learn, steps=8, sweeps=1, end=1).suggestion
try: learn.fit()
except SystemExit as e: ended = e.code
every = [None] * learn.world; dist.all_gather_object(every, [found, learn.step, ended - 128, learn.compute.dtype, learn.compute.channels_last, learn.compute.conv])
if learn.rank == 0: open(sys.argv[1] + '.json', 'w').write(json.dumps(every))
'''

def test_two_processes_choose_find_and_stop_together(tmp_path):
    "One of them hears a signal: both stop where they next compare their losses, and leave one checkpoint."
    script = tmp_path / 'together.py'; script.write_text(TOGETHER)
    cmd = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2', script, tmp_path / 'run']
    r = subprocess.run([*map(str, cmd)], capture_output=True, text=True, timeout=300, env=dict(os.environ, OMP_NUM_THREADS='1')); assert r.returncode == 0, r.stderr[-2000:]
    one, two = json.loads((tmp_path / 'run.json').read_text())
    assert one == two and one[1:3] == [20, signal.SIGTERM] and newest_checkpoint(tmp_path / 'run')[1]['step'] == 20

def test_bad_input_is_one_line_and_status_two(tmp_path):
    (tmp_path / 'file').write_text('')
    broken = tmp_path / 'broken'; broken.mkdir(); (broken / 'ckpt_00000001.pt').write_bytes(b'no')
    x, y = numpy.random.default_rng(0).integers(0, 256, (60, 64, 64, 3), numpy.uint8), numpy.arange(60) % 10
    for name, some in (('large', x), ('black', 0 * x)): numpy.savez(tmp_path / f'{name}.npz', x_train=some, y_train=y, x_test=some, y_test=y)
    large, black = (['--data', str(tmp_path / f'{name}.npz'), '--recipe', 'eva6_custom_onecycle', '--bs', '10'] for name in ('large', 'black'))
    for args, says in ((['--recipe', 'eva8', '--data', 'cifar10'], 'choose one of'), (['--data', str(tmp_path / 'none.npz')], 'no data'), (large, 'cannot take images of 64x64 pixels'), (black, 'nothing to learn'), (['--out', str(tmp_path / 'file' / 'x')], 'cannot write'),
                       (['--out', str(broken), '--resume'], 'not a checkpoint'), (['--out', str(tmp_path / 'new'), '--resume'], 'nothing to resume'), (['--bs', '5000'], 'lower the batch size')):
        r = subprocess.run([sys.executable, '-m', 'eva_cam.train', *(['--out', str(tmp_path / 'o')] if '--out' not in args else []), *args], capture_output=True, text=True, timeout=120)
        assert (r.returncode, r.stderr.count('\n')) == (2, 1) and says in r.stderr, (args, r.stderr)
    assert sorted(p.name for p in tmp_path.iterdir()) == ['black.npz', 'broken', 'file', 'large.npz'], 'nothing is left behind'

@pytest.mark.parametrize('recipe,args', [('eva6_custom_onecycle', ['--epochs', '1', '--bs', '50']), ('eva4_plateau', ['--epochs', '1', '--bs', '100', '--form', 'improved'])])
def test_a_recipe_runs_in_one_epoch_where_nothing_else_is_said(tmp_path, recipe, args):
    "Its peak moves along with its length, and its folder is named after its form."
    x, y = torch.randint(0, 256, (300, 32, 32, 3), dtype=torch.uint8).numpy(), (torch.arange(300) % 10).numpy()
    numpy.savez(tmp_path / 'tiny.npz', x_train=x, y_train=y, x_test=x[:50], y_test=y[:50])
    r = subprocess.run([sys.executable, '-m', 'eva_cam.train', '--recipe', recipe, '--data', str(tmp_path), *args], capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert r.returncode == 0, r.stderr
    again = subprocess.run([sys.executable, '-m', 'eva_cam.train', '--recipe', recipe, '--data', str(tmp_path), *args, '--resume'], capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert again.returncode == 0 and again.stdout.splitlines()[-2] == r.stdout.splitlines()[-2], again.stderr  # runs/ lies beside the data
    form = 'improved' if 'improved' in args else 'faithful'
    assert (tmp_path / 'runs' / f'{recipe}_{form}_0' / 'weights.safetensors').exists() and 'after 1 epochs' in r.stdout

def test_the_benchmark_of_recipes_keeps_what_it_promises(tmp_path):
    "From a folder with an .npz, one JSON a run, of both forms; a second call finds them there; what is kept in the repository is not touched."
    x, y = torch.randint(0, 256, (300, 32, 32, 3), dtype=torch.uint8).numpy(), (torch.arange(300) % 10).numpy()
    (tmp_path / 'in').mkdir(); numpy.savez(tmp_path / 'in' / 'cifar10.npz', x_train=x, y_train=y, x_test=x[:50], y_test=y[:50])
    before = (ROOT / 'benchmarks/results/recipes.json').read_bytes()
    cmd = [sys.executable, 'benchmarks/recipes.py', '--data', tmp_path / 'in', '--out', tmp_path / 'out', '--recipes', 'eva6_custom_onecycle', '--seeds', '3', '--epochs', '0.5']
    for said in ('seed 3', 'is there'):
        r = subprocess.run([*map(str, cmd)], capture_output=True, text=True, timeout=300, cwd=ROOT)
        assert r.returncode == 1 and said in r.stdout and 'eva6_custom_onecycle: not run in full' in r.stdout, r.stdout + r.stderr
    assert sorted(p.name for p in (tmp_path / 'out').glob('*.json')) == [f'eva6_custom_onecycle_{form}_3_0.5epochs.json' for form in ('faithful', 'improved')]
    for path in (tmp_path / 'out').glob('*.json'):
        run = json.loads(path.read_text())
        assert {'recipe', 'form', 'seed', 'epochs', 'test_accuracy', 'test_accuracy_flipped', 'accuracy_by_epoch', 'seconds', 'device', 'versions'} <= set(run)
        assert run['form'] in path.name and 0 <= run['test_accuracy'] <= 1
    assert not list((tmp_path / 'out').rglob('ckpt_*.pt'))
    assert (ROOT / 'benchmarks/results/recipes.json').read_bytes() == before

def test_a_kept_run_counts_only_with_the_settings_of_today(tmp_path):
    "Run once and changed since: then it is another recipe's figure."
    kept = json.loads((ROOT / 'benchmarks/results/recipes/eva4_step_improved_0.json').read_text())
    def judged(**changes):
        (tmp_path / 'eva4_step_improved_0.json').write_text(json.dumps({**kept, **changes}))
        return subprocess.run([sys.executable, 'benchmarks/recipes.py', '--out', str(tmp_path)], capture_output=True, text=True, timeout=300, cwd=ROOT).stdout
    assert f"eva4_step: {100 * kept['test_accuracy']:.2f} (goal" in judged()
    for changes in (dict(settings={**kept['settings'], 'bs': 256}), dict(form='faithful'), dict(settings=None), dict(images=2000)): assert 'eva4_step: not run in full' in judged(**changes)

def test_the_quickest_run_is_named_with_its_own_device(tmp_path):
    kept = json.loads((ROOT / 'benchmarks/results/recipes/eva4_step_improved_0.json').read_text())
    for seed, seconds, device in ((0, 100., 'slow'), (1, 10., 'quick')): (tmp_path / f'eva4_step_improved_{seed}.json').write_text(json.dumps({**kept, 'seed': seed, 'seconds': seconds, 'device': device}))
    (tmp_path / 'notes.json').write_text('{}')
    out = subprocess.run([sys.executable, 'benchmarks/recipes.py', '--out', str(tmp_path)], capture_output=True, text=True, timeout=300, cwd=ROOT).stdout
    assert '10 s of training in the quickest run, on quick' in out
