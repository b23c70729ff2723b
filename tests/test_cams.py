"Models at the edges of what a map can be asked of: shared and overwritten layers, rectifiers by other names, inputs that a model changes."
import pytest, torch
from torch import nn
from eva_cam.anymodel import fast_copy
from eva_cam.gradcam import cam_layers, explain_errors, find_layer, gradcam
from eva_cam.methods import ablationcam, finercam, flipcam, fusecam, guided_backprop, scorecam
from eva_cam.metrics import average_drop, completeness_gap, evaluate_maps, map_likeness

def seeded(make):
    torch.manual_seed(0)
    return make().eval()

x = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))

class Shared(nn.Module):
    "One rectifier that runs twice, and may overwrite what the convolutions gave."
    def __init__(self, inplace): super().__init__(); self.conv1, self.conv2, self.act, self.fc = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.ReLU(inplace), nn.Linear(8, 5)
    def forward(self, x): return self.fc(self.act(self.conv2(self.act(self.conv1(x)))).mean((2, 3)))

@pytest.mark.parametrize('inplace', [False, True])
def test_the_layer_that_is_chosen_runs_once(inplace):
    net = seeded(lambda: Shared(inplace))
    assert cam_layers(net, x).query('pick').layer.item() == 'conv2'
    torch.testing.assert_close(gradcam(net, x).raw, gradcam(net, x, 'conv2').raw)
    torch.testing.assert_close(gradcam(fast_copy(net, x), x).logits, gradcam(net, x).logits)

def test_a_layer_has_every_name_that_it_is_known_by():
    act = nn.ReLU()
    net = nn.Sequential(nn.Conv2d(3, 4, 3), act, nn.Conv2d(4, 4, 3), act)
    assert find_layer(net, '3') is act

@pytest.mark.parametrize('target, backwards', [(3, 1), ('pred', 1), ('true', 1), ('true-0', 2), ((1, 2), 2), ('all', 5)])
def test_a_gradient_is_taken_for_what_is_asked_and_no_more(target, backwards, monkeypatch):
    net, calls, real = seeded(lambda: Shared(False)), [], torch.autograd.grad
    monkeypatch.setattr(torch.autograd, 'grad', lambda *a, **k: calls.append(1) or real(*a, **k))
    gradcam(net, x, 'conv1', target, labels=torch.tensor([1, 2, 3, 4]))
    assert len(calls) == backwards

def test_a_head_of_zeros_is_said():
    net = seeded(lambda: Shared(False))
    with torch.no_grad(): net.fc.weight.zero_()
    assert 'no gradient reaches any layer' in cam_layers(net, x).query('pick').why.item()

@pytest.mark.parametrize('target', ['pred-ture', [0, 1], 'all', ('pred', 'all')], ids=str)
def test_a_target_that_is_none_is_said_before_the_evaluation(target):
    def batches(): raise AssertionError('the data were asked for'); yield
    with pytest.raises(ValueError, match='not understood|single classes'): explain_errors(seeded(lambda: Shared(False)), batches(), 'conv1', target)

class Overwrites(nn.Module):
    def __init__(self): super().__init__(); self.net = Shared(False)
    def forward(self, x): return self.net(x.sub_(.5).div_(.25))

def test_a_model_that_normalises_in_place_gets_the_maps_of_its_twin():
    net = seeded(Overwrites)
    class Twin(Overwrites):
        def forward(self, x): return self.net((x - .5) / .25)
    twin = seeded(Twin); mine = x.clone()
    for f in (lambda m, v: gradcam(m, v, 'net.conv1').raw, lambda m, v: flipcam(m, v, 'net.conv1').raw, lambda m, v: fusecam(m, v, ['net.conv1', 'net.conv2']).cam,
              lambda m, v: average_drop(m, v, torch.ones(4, 16, 16) / 2, torch.zeros(4).long())['drop'], lambda m, v: explain_errors(m, [(v, torch.zeros(4).long())], 'net.conv1').logits):
        torch.testing.assert_close(f(net, mine), f(twin, x)); assert torch.equal(mine, x)

class Acts(nn.Module):
    def __init__(self, act): super().__init__(); self.conv, self.act, self.fc = nn.Conv2d(3, 4, 3), act, nn.Linear(4, 2)
    def forward(self, x): return self.fc(self.act(self.conv(x)).mean((2, 3)))

@pytest.mark.parametrize('act', [nn.ReLU6(), nn.ReLU6(True), nn.PReLU(), nn.SELU(), nn.CELU(), nn.LeakyReLU(.1, True), nn.ELU(inplace=True)], ids=str)
def test_rectifiers_by_other_names_are_guided(act):
    net = seeded(lambda: Acts(act))
    with torch.no_grad(): net.fc.weight[0].neg_().clamp_(max=0)  # every way to class 0 is against it
    assert not guided_backprop(net, x, target=0).any()

def test_what_is_no_rectifier_is_not_taken_for_one():
    with pytest.raises(ValueError, match='no rectifier ran'): guided_backprop(seeded(lambda: Acts(nn.Hardtanh())), x)
    class Pair(Acts):
        def forward(self, x): return super().forward(x), 0
    with pytest.raises(ValueError, match='as one tensor'): guided_backprop(seeded(lambda: Pair(nn.ReLU())), x)
    class Frozen(Acts):
        def forward(self, x):
            with torch.no_grad(): return super().forward(x)
    with pytest.raises(ValueError, match='no gradient passes'): guided_backprop(seeded(lambda: Frozen(nn.ReLU())), x)

def test_a_norm_behind_a_rectifier_that_overwrites_is_not_folded():
    net = seeded(lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(True), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)))
    for bn in (net[2], net[4]): bn.running_mean.normal_(); bn.running_var.uniform_(.5, 2)
    fast = fast_copy(net, x)
    assert isinstance(fast[2], nn.BatchNorm2d) and isinstance(fast[4], nn.Identity)
    torch.testing.assert_close(fast(x), net(x), rtol=1e-3, atol=1e-3)
    for wrong in (x[0], x.double()):
        with pytest.raises(ValueError, match='4 axes|the model is torch.float32'): fast_copy(net, wrong)

@pytest.mark.parametrize('method', [ablationcam, scorecam])
def test_slow_methods_refuse_first(method):
    net, ran = seeded(lambda: Shared(False)), []
    net.register_forward_hook(lambda *a: ran.append(1))
    for kw, words in ((dict(scale='max'), 'scale .max. is not known'), (dict(bs=0), 'bs is 0')):
        with pytest.raises(ValueError, match=words): method(net, x, 'conv1', **kw)
    assert ran == []
    with pytest.raises(ValueError, match='must return .N,h,w.'): finercam(net, x, 'conv1', method=lambda A, G: A)

def test_ranks_are_those_of_scipy():
    stats = pytest.importorskip('scipy.stats')
    a, b = (torch.randint(0, 9, (3, 7, 7), generator=torch.Generator().manual_seed(s)).float() for s in (0, 1))
    for got, u, v in zip(map_likeness(a, b), a, b): assert abs(got - stats.spearmanr(u.flatten(), v.flatten())[0]) < 1e-6

def test_the_bias_is_that_of_the_logits():
    class Beside(Shared):
        def __init__(self): super().__init__(False); self.later = nn.Linear(8, 3)
    torch.testing.assert_close(completeness_gap(seeded(Beside), x, 'conv2'), completeness_gap(seeded(lambda: Shared(False)), x, 'conv2'))
    assert evaluate_maps(seeded(lambda: Shared(False)), [(x, torch.zeros(4).long())], 'conv1', metrics='drop', progress=False).index.tolist() == ['drop']
