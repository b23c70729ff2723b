"What may happen to a run at its worst moments, and settings that nobody should have to find out about an hour later."
import copy, math, random, re
import numpy as np, pytest, torch
from conftest import benchmark
from torch import nn
from eva_cam.callbacks import BatchTransform, Clip, EMA, SaveCheckpoints
from eva_cam.checkpoints import newest_checkpoint
from eva_cam.compute import Compute
from eva_cam.data import Batches, Data, ImageSet, Pipeline, load_data
from eva_cam.learner import Diverged, Learner
from eva_cam.lr_find import lr_find
from eva_cam.models import build_model
from eva_cam.optim import make_opt
from eva_cam.recipes import RECIPES, Recipe
from eva_cam.schedules import make_sched
from eva_cam.train import learner_for, train_recipe

data = load_data('sample')
stats = data.train.stats()

class Net(nn.Module):
    def __init__(self): super().__init__(); self.conv, self.norm, self.drop, self.fc = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(0.5), nn.Linear(8, 10)
    def forward(self, x): return self.fc(self.drop(self.norm(self.conv(x)).relu().mean((2, 3))))

def learner(cbs=(), model=None, **kw):
    "Four steps to an epoch."
    torch.manual_seed(3)
    model = model or Net()
    train, valid = (Batches(data.train.subset(range(*r)), 50, p, *stats, shuffle=bool(p)) for r, p in (((0, 200), Pipeline(flip=0.5)), ((200, 400), None)))
    return Learner(model, train, make_opt(model, dict(kind='sgd', lr=0.1, momentum=0.9)), **{'epochs': 5, 'compute': Compute(), 'cbs': cbs, 'evals': dict(valid=valid), **kw})

def same(a, b): return all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())

def told(history): return [{**h, 'seconds': 0} for h in history]

class Lost(BaseException): pass

def lose_the_evaluation(learn, step):
    "As `kill -9` would, if a finished step is all that is left of the epoch."
    whole = learn.evaluate
    def evaluate(batches):
        if learn.step == step: raise Lost
        return whole(batches)
    learn.evaluate = evaluate

@pytest.mark.parametrize('step', [8, 20])
def test_an_epoch_that_was_cut_off_before_its_evaluation_is_made_up(tmp_path, step):
    "A plateau would otherwise take other rates, and the last row of a run would be missing."
    kw = dict(sched=dict(kind='plateau', patience=0, threshold=0.5))
    through = learner(**kw).fit()
    cut = learner([SaveCheckpoints(tmp_path / 'cut', steps=4)], **kw); lose_the_evaluation(cut, step)
    with pytest.raises(Lost): cut.fit()
    assert newest_checkpoint(tmp_path / 'cut')[1]['step'] == step
    again = learner([SaveCheckpoints(tmp_path, steps=4)], **kw).resume(tmp_path / 'cut').fit()
    del cut.evaluate; cut.fit()
    for other in (again, cut): assert told(other.history) == told(through.history) and same(other.model, through.model) and other.lrs == through.lrs

def test_statistics_that_are_no_longer_finite_stop_the_run_and_are_not_kept(tmp_path):
    class Spoil:
        def after_step(self, learn):
            if learn.step == 6: learn.model.norm.running_mean[0] = math.nan
    for cbs in ([SaveCheckpoints(tmp_path)], [EMA(), SaveCheckpoints(tmp_path / 'averaged')]):
        with pytest.raises(Diverged, match='valid loss is nan after step 8; the last good checkpoint is ckpt_00000004.pt'): learner([Spoil(), *cbs]).fit()
    assert newest_checkpoint(tmp_path)[1]['step'] == 4
    with pytest.raises(Diverged, match='norm.running_mean is no longer finite after step 7'): learner([Spoil(), SaveCheckpoints(tmp_path / 'often', steps=7)]).fit()

def test_a_folder_of_a_run_that_is_further_on_is_left_alone(tmp_path):
    learner([SaveCheckpoints(tmp_path)]).fit()
    before = sorted(tmp_path.glob('ckpt_*'))
    with pytest.raises(ValueError, match='holds ckpt_000000(16|20).pt of a run that is further on: resume it'): learner([SaveCheckpoints(tmp_path)]).fit()
    assert sorted(tmp_path.glob('ckpt_*')) == before
    newest_checkpoint(tmp_path)[0].unlink()
    assert learner([SaveCheckpoints(tmp_path)]).resume(tmp_path).fit().step == 20  # the lock was given back

def test_a_run_that_is_lost_while_it_writes_leaves_whole_files_to_its_successor(tmp_path, monkeypatch):
    "Its table reaches as far as its last checkpoint, and what it left aside is cleared away."
    from eva_cam import callbacks
    small, kw = RECIPES['eva4_step'].change(arch_kw=dict(width=2), bs=10, epochs=2), dict(out=tmp_path, compute=Compute(), progress=False)
    few, write = Data(photos(16, 'train'), photos(16, 'test')), callbacks.write_checkpoint
    def lose(state, path):
        if state['step'] == 4: (tmp_path / '.weights.safetensors.77.aside').touch(); raise Lost
        return write(state, path)
    monkeypatch.setattr(callbacks, 'write_checkpoint', lose)
    with pytest.raises(Lost): train_recipe(small, few, **kw)
    assert newest_checkpoint(tmp_path)[1]['step'] == 2
    monkeypatch.setattr(callbacks, 'write_checkpoint', write)
    train_recipe(small, few, resume=True, **kw)
    assert (tmp_path / 'history.csv').read_text().count('\n') == 3 and not list(tmp_path.glob('.*.aside'))
    monkeypatch.setattr(callbacks.HistoryFiles, 'after_epoch', lambda self, learn: (_ for _ in ()).throw(Lost))
    again = tmp_path / 'again'
    with pytest.raises(Lost): train_recipe(small, few, **{**kw, 'out': again})
    assert not list(again.glob('ckpt_*'))  # a checkpoint says that its epoch stands in the table

def test_a_checkpoint_before_the_average_is_refused(tmp_path):
    with pytest.raises(ValueError, match='put SaveCheckpoints last'): learner([SaveCheckpoints(tmp_path), EMA()]).fit()

def test_two_callbacks_of_one_class_are_refused_before_a_checkpoint_is_lost(tmp_path):
    with pytest.raises(ValueError, match='there are two EMA, and a checkpoint keeps one'): learner([EMA(), EMA(0.9), SaveCheckpoints(tmp_path)]).fit()
    assert not list(tmp_path.glob('ckpt_*'))

def test_many_short_fits_are_one_run(tmp_path):
    learn = learner([SaveCheckpoints(tmp_path, seconds=0.)])
    for step in (1, 2, 3):
        learn.fit(1)
        assert newest_checkpoint(tmp_path)[1]['step'] == step
    learn = learner([keep := SaveCheckpoints(tmp_path / 'slow', seconds=3600.)])
    learn.fit(1); keep.written -= 3600.; learn.fit(1)
    assert newest_checkpoint(tmp_path / 'slow')[1]['step'] == 2

def test_numbers_of_numpy_can_be_resumed_from(tmp_path):
    def make(): return learner([SaveCheckpoints(tmp_path)], seed=np.int64(1), sched=dict(kind='linear', warm=np.float32(0.5)))
    for g in (first := make()).opt.param_groups: g['initial_lr'] = np.float64(0.1)
    first.fit(4)
    assert make().resume(tmp_path).step == 4

def test_less_memory_than_before_may_be_said(tmp_path):
    learner([SaveCheckpoints(tmp_path)], micro=25).fit(4)
    assert [learner(micro=m).resume(tmp_path).micro for m in (None, 40, 10)] == [25, 25, 10]

def test_a_state_between_two_fits_goes_on_like_the_run_itself():
    through, half = learner().fit(), learner().fit(6)
    torch.rand(5)  # the caller draws, too
    kept = copy.deepcopy(half.state())
    one, two = learner().load_state(kept).fit(), learner().load_state(kept).fit()
    assert all(same(l.model, through.model) for l in (one, two, half.fit())) and same(learner().load_state(learner().state()).fit().model, through.model)

def test_all_chance_comes_from_the_seed():
    drawn = []
    def draw(x, y): drawn.append((random.random(), np.random.rand(), torch.rand(1).item())); return x, y
    for caller in (1, 2): random.seed(caller); np.random.seed(caller); torch.manual_seed(caller); learner([BatchTransform(draw)], seed=7).fit(3); after = np.random.rand()
    assert drawn[:3] == drawn[3:] and after == np.random.RandomState(2).rand()

def test_memory_that_runs_out_while_weights_move_does_not_move_them_twice():
    learn = learner()
    def full(*a, **kw): raise torch.cuda.OutOfMemoryError('too much')
    learn.opt.register_step_post_hook(full)
    with pytest.raises(torch.cuda.OutOfMemoryError): learn.fit(1)
    assert learn.micro is None

@pytest.mark.parametrize('dtype', ['float32', 'float16'])
def test_a_step_that_is_broken_off_is_as_if_it_had_not_begun(dtype):
    "Statistics, sums, random numbers and the scaler of float16, which refuses to unscale twice; the run ends on the bits of one that nobody disturbed."
    class Once:
        def before_step(self, learn):
            if learn.step == 6 and not hasattr(self, 'failed'): self.failed = True; raise Lost
    kw = dict(compute=Compute(dtype=dtype), epochs=2)
    through, broken = learner([Clip(1.)], **kw).fit(), learner([Clip(1.), Once()], **kw)
    with pytest.raises(Lost): broken.fit()
    assert told(broken.fit().history) == told(through.history) and same(broken.model, through.model)

def test_a_piece_that_did_not_fit_leaves_no_trace():
    "Batch norm has seen the first half of the batch, and dropout has drawn, before memory runs out on the second."
    class Hungry(Net):
        calls, full = 0, 4
        def forward(self, x):
            out, self.calls = super().forward(x), self.calls + self.training
            if self.calls == self.full: raise torch.cuda.OutOfMemoryError('too much')
            return out
    hungry = Hungry(); fed = copy.deepcopy(hungry); fed.calls = 9
    hungry, fed = (learner(model=model, micro=25, epochs=1).fit(1) for model in (hungry, fed))
    hungry.fit(1); fed.micro = 13; fed.fit(1)
    assert hungry.micro == 13 and same(hungry.model, fed.model) and hungry._sums.tolist() == fed._sums.tolist()

def test_a_run_can_be_taken_back():
    "Losses still to be looked at are forgotten, and weights that were frozen since are thawed."
    def make():
        learn = learner(epochs=2)
        learn.opt.param_groups[1]['stop'] = 1
        return learn
    learn = make().fit(2); early = copy.deepcopy(learn.state())
    class Late:
        def before_step(self, learn):
            if learn.step == 6: raise Lost
    learn.cbs.append(Late())
    with pytest.raises(Lost): learn.fit()
    learn.cbs.clear()
    assert learn.load_state(early).fit().losses == make().fit().losses and len(learn.losses) == 8

def test_a_learner_of_ones_own_refuses_the_checkpoint_of_another(tmp_path):
    learner([SaveCheckpoints(tmp_path)]).fit(4)
    for kw, says in ((dict(sched=dict(kind='cosine')), 'sched.kind: flat before, cosine now'), (dict(epochs=9), 'epochs: 5 before, 9 now'), (dict(loss='sum'), 'loss: mean before, sum now'), (dict(seed=1), 'seeds: .0, 0. before, .1, 0. now'), (dict(cbs=[EMA()]), 'callbacks')):
        with pytest.raises(ValueError, match=says): learner(**kw).resume(tmp_path)
    slow, other = learner(), learner()
    slow.opt.param_groups[0]['momentum'] = 0.5; slow = Learner(slow.model, slow.train, slow.opt, epochs=5, compute=Compute(), evals=slow.evals)
    other.train.pipeline = Pipeline(); other = Learner(other.model, other.train, other.opt, epochs=5, compute=Compute(), evals=other.evals)
    for own, says in ((slow, 'groups: .*0.9.* before, .*0.5.* now'), (other, 'pipeline: .*0.5.* before')):
        with pytest.raises(ValueError, match=says): own.resume(tmp_path)
    whole = learner().state()
    for part in whole:
        with pytest.raises(ValueError, match=f'it has no {part}: give one'): learner().load_state({k: v for k, v in whole.items() if k != part})

def test_a_step_that_was_not_taken_leaves_no_rate():
    class Once:
        def before_batch(self, learn):
            if learn.step == 3 and not hasattr(self, 'failed'): self.failed = True; raise Lost
    learn = learner([Once()])
    with pytest.raises(Lost): learn.fit()
    assert learn.fit().lrs == learner().fit().lrs and len(learn.lrs) == 20

def test_an_epoch_and_a_tenth_of_390_steps_are_429():
    few = data.train.subset(range(390))
    learn = learner_for(RECIPES['fast'].change(bs=1, epochs=1.1, arch_kw=dict(widths=(4, 4, 4))), Data(few, data.test), compute=Compute())
    assert learn.total == learn.train.total == 429

@pytest.mark.parametrize('kw', [dict(epochs=0), dict(epochs=math.inf), dict(eval_every=0), dict(micro=-1), dict(micro=0), dict(label_smoothing=1.), dict(label_smoothing=-0.1)], ids=str)
def test_a_learner_refuses_what_makes_no_sense(kw):
    with pytest.raises(ValueError, match=re.escape(f'{next(iter(kw))} is {next(iter(kw.values()))}: give ')): learner(**kw)

@pytest.mark.parametrize('make', [lambda: make_sched(dict(kind='step', every=0)), lambda: make_sched(dict(kind='one_cycle', start=1., moms=(0.8, 0.9))), lambda: Clip(-1.), lambda: Clip(math.nan),
    lambda: make_opt(Net(), dict(RECIPES['best'].opt, bias_lr=0.)), lambda: RECIPES['best'].change(clip=-1.), lambda: RECIPES['best'].change(ema=1.), lambda: RECIPES['best'].change(epochs=math.inf), lambda: RECIPES['best'].change(label_smoothing=2), lambda: RECIPES['best'].change(valid=-3),
    lambda: EMA(2.), lambda: EMA(-1.), lambda: learner(sched=dict(kind='one_cycle', peak=9))])
def test_so_do_its_parts(make):
    with pytest.raises(ValueError): make()

def photos(side, split, n=20): return ImageSet(np.random.default_rng(0).integers(0, 256, (n, side, side, 3), dtype=np.uint8), np.arange(n) % 10, list('abcdefghij'), name=split, split=split)

@pytest.mark.parametrize('name', ['fast', 'eva7_baseline'])
def test_a_recipe_of_small_crops_refuses_large_images(name):
    "Trained on 32 pixels and tested on 64, a network that is right in 94 % is right in 32 %."
    with pytest.raises(ValueError, match=f'{name} trains on 32x32 pixels, but test has 64x64: resize the images to 32x32'): learner_for(name, Data(photos(64, 'train'), photos(64, 'test')), compute=Compute())
    small = RECIPES['eva4_step'].change(arch_kw=dict(width=2), bs=10)
    assert learner_for(small, Data(photos(64, 'train'), photos(64, 'test')), compute=Compute()).train.batch(0, 0)[0].shape[-1] == 64
    with pytest.raises(ValueError, match='trains on 16x16 pixels, but test has 64x64'): learner_for(small, Data(photos(16, 'train'), photos(64, 'test')), compute=Compute())
    with pytest.raises(ValueError, match='no test images to measure on'): train_recipe(small, Data(photos(16, 'train'), None), compute=Compute(), progress=False)

def test_every_width_takes_a_group_norm_and_every_parameter_is_trained():
    for width in range(1, 14): assert build_model('resnet18', width=width, norm='group')
    class Odd(nn.Module):
        def __init__(self): super().__init__(); self.conv, self.deep, self.gain = nn.Conv2d(3, 4, 3), nn.Conv3d(1, 2, 3), nn.Parameter(torch.tensor(1.))
    odd = Odd()
    assert {p for g in make_opt(odd, RECIPES['best'].opt).param_groups for p in g['params']} == set(odd.parameters())

def test_the_finder_restores_what_no_state_dict_holds_and_sees_what_training_sees():
    class Counts(Net):
        def __init__(self): super().__init__(); self.register_buffer('seen', torch.zeros(1), persistent=False)
        def forward(self, x): self.seen += 1; return super().forward(x)
    mixed = []
    learn = learner([BatchTransform(lambda x, y: mixed.append(len(x)) or (x, y))], Counts())
    kw = dict(sweeps=1, steps=8, start=1e-4, end=1.)
    part, whole = lr_find(learn, images=20, **kw), lr_find(learn, images=None, **kw)
    assert learn.model.seen.item() == 0 and learn.xb is None and set(mixed) == {20, 50}
    assert whole.images == 50 * (len(whole.losses[0]) + 1) and part.images == 20 * (len(part.losses[0]) + 1)
    for wrong in (dict(images=0), dict(images=-9), dict(beta=1.)):
        with pytest.raises(ValueError, match='lr_find wants 1 image or more'): lr_find(learn, **wrong, **kw)

def test_settings_that_came_later_leave_a_kept_run_valid():
    "A field with a default says nothing about runs that were made before it."
    of_today = benchmark('recipes').of_today
    settings = RECIPES['eva4_step'].form('improved').settings()
    older = {k: v for k, v in settings.items() if k != 'drop_last'}
    assert [of_today(dict(recipe='eva4_step', form='improved', settings=s)) for s in (settings, older, {**older, 'bs': 9}, {**older, 'gone': 1}, None)] == [True, True, False, False, False]
    assert Recipe.from_dict(older).settings() == settings

def test_the_finder_takes_a_network_that_knows_its_images():
    "Its loss jumps to a multiple of next to nothing from batch to batch, which is not yet the end."
    rng, y = np.random.default_rng(0), np.arange(400) % 10
    x = rng.integers(0, 100, (400, 8, 8, 3), dtype=np.uint8); x[range(400), y % 8, y // 8] = 255
    torch.manual_seed(0)
    ds = ImageSet(x, y, list('abcdefghij'), name='shades', split='train')
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 64), nn.ReLU(), nn.Linear(64, 10))
    learn = Learner(model, Batches(ds, 50, None, *ds.stats(), shuffle=True), make_opt(model, dict(kind='sgd', lr=0.05, momentum=0.9)), epochs=20, compute=Compute()).fit()
    assert learn.losses[-1] < 0.1
    assert min(len(l) for l in lr_find(learn, start=1e-4).losses) > 20
