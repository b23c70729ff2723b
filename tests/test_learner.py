"Settings that must reach the step, and state that must survive: what the lessons do not show."
import copy
import pytest, torch, torch.nn.functional as F
from torch import nn
from torch.testing import assert_close
from eva_cam.callbacks import EMA, Clip
from eva_cam.compute import Compute
from eva_cam.data import Batches, Pipeline, load_data
from eva_cam.learner import Learner, predict
from eva_cam.lr_find import borrowed, lr_find
from eva_cam.models import resnet18
from eva_cam.optim import make_opt
from eva_cam.recipes import RECIPES
from eva_cam.train import learner_for

data = load_data('sample')
stats = data.train.stats()

class Linear(nn.Module):
    def __init__(self): super().__init__(); self.fc = nn.Linear(3, 10, bias=False)
    def forward(self, x): return self.fc(x.mean((2, 3)))

def learner(model=None, opt=None, **kw):
    torch.manual_seed(0)
    model = model or Linear()
    train = Batches(data.train.subset(range(200)), 50, Pipeline(pad=2, flip=0.5), *stats, shuffle=True)
    return Learner(model, train, make_opt(model, opt or dict(kind='sgd', lr=0.1, momentum=0.9)), **{'compute': Compute(), 'epochs': 2, **kw})

def test_label_smoothing_reaches_the_gradient():
    learn = learner(opt=dict(kind='sgd', lr=1.), label_smoothing=0.2)
    w, (xb, yb) = learn.model.fc.weight.detach().clone(), learn.train.batch(0, 0)
    X, target = xb.mean((2, 3)), 0.8 * F.one_hot(yb, 10) + 0.02
    learn.one_step(xb, yb)
    assert_close(w - learn.model.fc.weight.detach(), ((X @ w.T).softmax(1) - target).T @ X / 50)

def test_a_recipes_clip_shortens_its_steps():
    recipe = RECIPES['eva6_custom_onecycle'].change(arch_kw=dict(width=4), clip=1e-4, opt=dict(kind='sgd', lr=1.), sched=dict(kind='flat'))
    learn = learner_for(recipe, data, compute=Compute())
    before = [p.detach().clone() for p in learn.model.parameters()]
    learn.fit(1)
    moved = torch.stack([(p - b).norm() for p, b in zip(learn.model.parameters(), before)]).norm().item()
    assert any(isinstance(cb, Clip) for cb in learn.cbs) and moved == pytest.approx(1e-4, rel=0.02)

def test_momentum_cycles_where_it_is_asked_for():
    learn = learner(sched=dict(kind='one_cycle', peak=1, start=0.1, end=0.01, moms=(0.85, 0.95)))
    seen = []
    for learn.step in range(9): learn.set_rates(); seen.append(learn.opt.param_groups[0]['momentum'])
    assert seen[0] == pytest.approx(0.95) and seen[4] == pytest.approx(0.85) and max(seen) <= 0.95
    with pytest.raises(ValueError, match='moms needs an optimiser with momentum'): learner(opt=dict(kind='adamw', lr=0.1), sched=dict(kind='one_cycle', peak=1, moms=(0.85, 0.95)))

class Wordy(Linear):
    def forward(self, x): return dict(logits=super().forward(x))

@pytest.mark.parametrize('compute', [None, Compute()])
def test_what_is_no_logits_is_said_before_a_step(compute):
    few = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 5))
    for model, words in ((Wordy(), 'returns dict: it must return logits'), (few, '5 of at least 10 logits')):
        before = copy.deepcopy(model.state_dict())
        with pytest.raises(ValueError, match=words): learner(model, compute=compute).fit()
        for k, v in model.state_dict().items(): assert_close(v, before[k], rtol=0, atol=0)
    with pytest.raises(ValueError, match='returns dict'): predict(Wordy(), Batches(data.test, 100, None, *stats), flip=True)

def test_resuming_in_the_format_of_this_machine_is_bit_identical():
    kw = dict(compute=Compute('cpu', 'bfloat16', True, 1), sched=dict(kind='one_cycle', peak=1))
    def net(): torch.manual_seed(1); return resnet18(width=4)
    through = learner(net(), cbs=[EMA(0.9)], **kw).fit()
    half = learner(net(), cbs=[EMA(0.9)], **kw).fit(3)
    again = learner(net(), cbs=[EMA(0.9)], **kw).load_state(copy.deepcopy(half.state())).fit()
    for a, b in ((through.model, again.model), (through.eval_model, again.eval_model)):
        for k, v in a.state_dict().items(): assert_close(b.state_dict()[k], v, rtol=0, atol=0)
    assert again.losses == through.losses

def test_the_scaler_of_float16_is_remembered_and_may_be_new():
    learn = learner(compute=Compute(dtype='float16'))
    learn.fit(1); learn.scaler.update(1024.)
    again = learner(compute=Compute(dtype='float16')).load_state(learn.state())
    assert again.scaler.get_scale() == 1024
    state = learner(compute=Compute(dtype='bfloat16')).state()  # from a machine that needed no scaler
    there = learner(compute=Compute(dtype='float16')).load_state(state)
    assert there.compute.dtype == 'float16' and there.scaler.is_enabled() and there.fit(1).step == 1

def test_a_folder_may_hold_one_npz_or_cifar10_as_downloaded(tmp_path, monkeypatch):
    from eva_cam import sources
    monkeypatch.setattr(sources, 'read_cifar', lambda source, root: (source, str(root)) and data)
    (tmp_path / 'cifar-10-batches-py').mkdir()
    assert load_data(tmp_path) is data

def test_a_cache_that_cannot_be_written_is_a_warning(tmp_path):
    from PIL import Image
    (tmp_path / 'in' / 'cat').mkdir(parents=True); (tmp_path / 'file').write_text('')
    Image.fromarray(data.test.x[0]).save(tmp_path / 'in' / 'cat' / '0.png')
    with pytest.warns(UserWarning, match='were not kept in'): ds = load_data(tmp_path / 'in', cache=tmp_path / 'file' / 'below').test
    assert (ds.x[0] == data.test.x[0]).all() and (tmp_path / 'file').read_text() == ''

def test_the_finder_leaves_average_and_scaler_alone():
    learn = learner(compute=Compute(dtype='float16'), cbs=[EMA(0.9)]).fit(2)
    before, scale = copy.deepcopy(learn.eval_model.state_dict()), learn.scaler.state_dict()
    lr_find(learn, steps=8, sweeps=1, end=1)
    for k, v in learn.eval_model.state_dict().items(): assert_close(v, before[k], rtol=0, atol=0)
    assert learn.scaler.state_dict() == scale and learn.eval_model is not learn.model

def test_a_borrowed_learner_comes_back_with_a_scaler_that_can_step():
    "One that has unscaled and not stepped would refuse to unscale again."
    class Once:
        def before_step(self, learn): learn.cbs.remove(self); raise RuntimeError('on purpose')
    learn = learner(compute=Compute(dtype='float16'), cbs=[Clip(1.), Once()])
    with pytest.raises(RuntimeError, match='on purpose'), borrowed(learn): learn.one_step(*learn.train.batch(0, 0))
    assert learn.fit(1).step == 1
