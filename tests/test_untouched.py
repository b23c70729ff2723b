"""Whatever is asked of a model, and however it fails, the model is afterwards as it was."""

import pytest, torch
from torch import nn

from eva_cam import anymodel, gradcam as g, methods, metrics

LAYER = 'block1'

@pytest.fixture(scope='module')
def net():
    "A net in a mixed state: partly in training mode, partly frozen, with gradients."
    net = g.drawn_net(128, 1).train()
    net.block1.eval()
    net.stem.requires_grad_(False)
    x, y, _ = g.drawn_objects(4)
    net(x).sum().backward()
    return net

def state(m):
    "Everything that could be disturbed, by identity and by value."
    def of(t): return None if t is None else (id(t), t.requires_grad, t.detach().numpy().tobytes())
    modules = [(n, id(k), k.training, len(k._forward_hooks), len(k._forward_pre_hooks), len(k._backward_hooks), len(k._backward_pre_hooks)) for n, k in m.named_modules()]
    return (modules, [(n, of(p), of(p.grad)) for n, p in m.named_parameters()], [of(b) for b in m.buffers()],
            torch.get_rng_state().numpy().tobytes(), torch.is_grad_enabled(), torch.is_inference_mode_enabled())

def cams(x): return torch.rand(len(x), *x.shape[-2:], generator=torch.Generator().manual_seed(0))

CALLS = dict(
    gradcam=lambda m, x, y: g.gradcam(m, x, LAYER, ('pred', 'true', 'pred-true'), labels=y),
    every=lambda m, x, y: g.gradcam(m, x, LAYER, 'all', chunk=3),
    picked=lambda m, x, y: g.gradcam(m, x),
    cam_layers=lambda m, x, y: g.cam_layers(m, x),
    explain_errors=lambda m, x, y: g.explain_errors(m, [(x, y), (x, y)], LAYER),
    finercam=lambda m, x, y: methods.finercam(m, x, LAYER),
    ablationcam=lambda m, x, y: methods.ablationcam(m, x, LAYER),
    scorecam=lambda m, x, y: methods.scorecam(m, x, LAYER),
    guided_backprop=lambda m, x, y: methods.guided_backprop(m, x),
    guided_gradcam=lambda m, x, y: methods.guided_gradcam(m, x, LAYER),
    fusecam=lambda m, x, y: methods.fusecam(m, x, [LAYER, 'block2']),
    flipcam=lambda m, x, y: methods.flipcam(m, x, LAYER),
    deletion=lambda m, x, y: metrics.deletion(m, x, cams(x), y),
    insertion=lambda m, x, y: metrics.insertion(m, x, cams(x), y),
    road=lambda m, x, y: metrics.road(m, x, cams(x), y),
    average_drop=lambda m, x, y: metrics.average_drop(m, x, cams(x), y),
    completeness_gap=lambda m, x, y: metrics.completeness_gap(m, x, 'block2'),
    cascade=lambda m, x, y: metrics.randomise_cascade(m, x, LAYER),
    evaluate_maps=lambda m, x, y: metrics.evaluate_maps(m, [(x, y)], LAYER, metrics=('drop',), progress=False),
    fast_copy=lambda m, x, y: anymodel.fast_copy(m, x),
)

@pytest.mark.parametrize('name', CALLS)
@pytest.mark.parametrize('mode', [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_untouched_by_success(net, name, mode):
    x, y, _ = g.drawn_objects(5)
    before = state(net)
    with mode(): CALLS[name](net, x, y)
    assert state(net) == before

class Broken(Exception): pass

@pytest.mark.parametrize('name', CALLS)
@pytest.mark.parametrize('where', ['stem', 'pool'])
def test_untouched_by_a_model_that_raises(net, name, where):
    def fail(*args): raise Broken
    x, y, _ = g.drawn_objects(5)
    handle = net.get_submodule(where).register_forward_hook(fail)
    try:
        before = state(net)
        with pytest.raises(Broken): CALLS[name](net, x, y)
        assert state(net) == before
    finally: handle.remove()

@pytest.mark.parametrize('kw', [dict(target=7), dict(target=[1, 2]), dict(layer='nowhere'), dict(layer='head'), dict(method=lambda A, G: 1 / 0), dict(method='none'), dict(call=3)])
def test_untouched_by_a_bad_request(net, kw):
    x, y, _ = g.drawn_objects(5)
    before = state(net)
    with pytest.raises((ValueError, ZeroDivisionError)): g.gradcam(net, x, **{'layer': LAYER, **kw})
    assert state(net) == before

def test_random_model_keeps_the_dice(net):
    "A model that draws random numbers even in evaluation mode does not move the caller's generator."
    class Dice(nn.Module):
        def __init__(self): super().__init__(); self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 4)
        def forward(self, x): return self.head(self.conv(x + torch.rand_like(x)).mean((2, 3)))
    x, y, _ = g.drawn_objects(5)
    dice = Dice()
    before = state(dice)
    g.gradcam(dice, x, 'conv'); g.explain_errors(dice, [(x, y)], 'conv')
    assert state(dice) == before
