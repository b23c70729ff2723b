"""Our maps against grad-cam, torchcam and captum: equal where they are right, and against the equation where they are not.

Needs the versions of `pip install eva_cam[bench]`; without them these tests are skipped."""
import copy

import pytest, torch
from torch import nn
from torch.testing import assert_close

pytest.importorskip('pytorch_grad_cam'); pytest.importorskip('torchcam'); pytest.importorskip('captum')
import pytorch_grad_cam as peer
import torchcam.methods as torchcam
from captum.attr import GuidedBackprop, LayerGradCam
from pytorch_grad_cam.ablation_layer import AblationLayer
from pytorch_grad_cam.guided_backprop import GuidedBackpropReLUModel
from pytorch_grad_cam.metrics.road import NoisyLinearImputer
from pytorch_grad_cam.metrics.perturbation_confidence import RemoveMostRelevantFirst
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from eva_cam.gradcam import drawn_net, drawn_objects, gradcam
from eva_cam.methods import ablationcam, guided_backprop, scorecam
from eva_cam.metrics import fill_holes, pixel_ranks
from eva_cam.models import fast_net, resnet18

TOL = 1e-4

@pytest.fixture(scope='module')
def drawn():
    img, y, _ = drawn_objects(6, seed=1)
    return drawn_net(512, 4), (img - 0.5) / 0.25, y

@pytest.fixture(scope='module', params=['drawn', 'resnet18', 'fast_net'])
def case(request, drawn):
    "A model in evaluation mode, images, classes and layers to look at."
    torch.manual_seed(0)
    net, x, y = drawn
    if request.param == 'drawn': return net, x, y, ('stem', 'block1', 'block2')
    if request.param == 'resnet18': return resnet18(width=16).eval(), x, y, ('layer2', 'layer3', 'layer4')
    return fast_net(widths=(16, 32, 32)).eval(), x, y, ('block1', 'block2', 'block3')

def gradcam_raw(cls, model, x, layer, y, **kw):
    "The signed map of a grad-cam method, before its scaling."
    layer, targets = model.get_submodule(layer), [ClassifierOutputTarget(int(c)) for c in y]
    with cls(model=model, target_layers=[layer], **kw) as cam:
        cam(x, targets)
        kept = cam.activations_and_grads
        G = kept.gradients[0].numpy() if kept.gradients else None
        return torch.as_tensor(cam.get_cam_image(x, layer, targets, kept.activations[0].numpy(), G, False))

def torchcam_map(cls, model, x, layer, y):
    "torchcam's map after its ReLU, before its scaling."
    with cls(model, layer) as cam: return cam(y.tolist(), model(x), normalized=False)[0].detach()

def close(ours, theirs): assert_close(ours, theirs.float(), rtol=0, atol=TOL * theirs.abs().max().item())

@pytest.mark.parametrize('method, cls', [('gradcam', peer.GradCAM), ('hirescam', peer.HiResCAM), ('layercam', peer.LayerCAM), ('xgradcam', peer.XGradCAM)])
def test_grad_cam_agrees(case, method, cls):
    model, x, y, layers = case
    for l in layers: close(gradcam(model, x, l, y, method).raw, gradcam_raw(cls, copy.deepcopy(model), x, l, y))

@pytest.mark.parametrize('method, cls', [('gradcam', torchcam.GradCAM), ('layercam', torchcam.LayerCAM), ('xgradcam', torchcam.XGradCAM)])
def test_torchcam_agrees(case, method, cls):
    model, x, y, layers = case
    for l in layers: close(gradcam(model, x, l, y, method).raw.relu(), torchcam_map(cls, copy.deepcopy(model), x, l, y))

def test_captum_agrees(case):
    model, x, y, layers = case
    for l in layers:
        theirs = LayerGradCam(model, model.get_submodule(l)).attribute(x, target=y)[:, 0].detach()
        close(gradcam(model, x, l, y).raw, theirs)

def equation_gradcampp(A, G):
    "Grad-CAM++ of the paper, to be run in float64."
    S = A.sum((2, 3), keepdim=True)
    alpha = (G**2 / (2 * G**2 + S * G**3)).nan_to_num(0)
    return ((alpha * G.relu()).sum((2, 3), keepdim=True) * A).sum(1)

def relative(a, b): return ((a - b).abs().amax((1, 2)) / b.abs().amax((1, 2))).max().item()

def test_torchcam_gradcampp_has_no_alpha(drawn):
    net, x, y = drawn
    truth = gradcam(copy.deepcopy(net).double(), x.double(), 'block1', y, equation_gradcampp).raw
    theirs = torchcam_map(torchcam.GradCAMpp, copy.deepcopy(net), x, 'block1', y)
    without = gradcam(net, x, 'block1', y, lambda A, G: ((G**2 * G.relu()).sum((2, 3), keepdim=True) * A).sum(1)).raw
    close(without, theirs)                                   # what it computes: the alpha is made and never used
    assert relative(theirs / theirs.amax((1, 2), keepdim=True), truth / truth.amax((1, 2), keepdim=True)) > 0.05
    assert relative(gradcam(net, x, 'block1', y, 'gradcam++').raw, truth) < TOL

def test_grad_cam_gradcampp_forgets_weak_gradients(drawn):
    "Its constant of 1e-6 decides the map once squared gradients are below it."
    net, x, y = drawn
    weak = copy.deepcopy(net)
    with torch.no_grad(): weak.head.weight.mul_(1e-4); weak.head.bias.mul_(1e-4)
    truth = gradcam(copy.deepcopy(weak).double(), x.double(), 'block1', y, equation_gradcampp).raw
    assert relative(gradcam_raw(peer.GradCAMPlusPlus, copy.deepcopy(weak), x, 'block1', y), truth) > 0.5
    assert relative(gradcam(weak, x, 'block1', y, 'gradcam++').raw, truth) < TOL

def test_grad_cam_ablation_inverts_with_the_bias(drawn):
    net, x, y = drawn
    shifted = copy.deepcopy(net)
    with torch.no_grad(): shifted.head.bias.sub_(100)        # every logit drops by 100, no evidence changes
    a, b = (gradcam_raw(peer.AblationCAM, copy.deepcopy(m), x[:2], 'block2', y[:2], ablation_layer=AblationLayer()) for m in (net, shifted))
    def likeness(a, b): return torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].item()
    with torch.no_grad(): positive = net(x[:2]).gather(1, y[:2, None]).squeeze(1) > 0
    assert positive.any()
    for s, t, p in zip(a, b, positive):
        if p: assert likeness(s, t) < -0.99
    close(ablationcam(shifted, x, 'block2', y).raw, ablationcam(net, x, 'block2', y).raw)
    with torch.no_grad(): A, w = net[:3](x), net.head.weight[y]
    close(ablationcam(net, x, 'block2', y).raw, ((w * A.mean((2, 3)))[:, :, None, None] * A).sum(1))

def test_grad_cam_scorecam_agrees(case, monkeypatch):
    "Channels are enlarged before they are scaled to 0..1. Theirs are enlarged corner to corner; asked to enlarge like ours they give the same map."
    model, x, y, layers = case
    monkeypatch.setattr(nn, 'UpsamplingBilinear2d', lambda size: lambda t: nn.functional.interpolate(t, size, mode='bilinear', align_corners=False))
    for l in layers[1:]: close(scorecam(model, x[:1], l, y[:1]).raw, gradcam_raw(peer.ScoreCAM, copy.deepcopy(model), x[:1], l, y[:1]))

def test_grad_cam_road_removes_everything():
    "A map with many zeros: a tenth of the pixels is asked for, all of them go."
    cam, gone = torch.zeros(32, 32), []
    cam[:3, :10] = torch.rand(3, 10) + 0.1
    RemoveMostRelevantFirst(90, lambda img, keep: gone.append(1 - keep.mean().item()))(torch.rand(3, 32, 32), cam)
    assert gone[0] == 1
    assert (pixel_ranks(cam[None]) < round(0.1 * 1024)).float().mean().item() == 102 / 1024

def test_holes_are_filled_like_theirs():
    torch.manual_seed(0)
    x, hole = torch.randn(3, 3, 20, 20), torch.rand(3, 20, 20) < torch.tensor([0.2, 0.5, 0.85]).view(3, 1, 1)
    theirs = torch.stack([NoisyLinearImputer(noise=0)(i, (~h).float()) for i, h in zip(x, hole)])
    assert_close(fill_holes(x, hole, tol=1e-6), theirs, rtol=0, atol=TOL)

class InPlace(nn.Module):
    "A convolution whose output an in-place ReLU overwrites."
    def __init__(self, inplace):
        super().__init__()
        self.conv, self.act, self.last, self.head = nn.Conv2d(3, 8, 3), nn.ReLU(inplace=inplace), nn.Conv2d(8, 8, 3), nn.Linear(8, 4)
    def forward(self, x): return self.head(self.last(self.act(self.conv(x))).tanh().mean((2, 3)))

def test_peers_read_what_an_inplace_relu_left(drawn):
    _, x, y = drawn
    torch.manual_seed(0)
    clean = InPlace(False).eval()
    dirty = InPlace(True).eval(); dirty.load_state_dict(clean.state_dict())
    truth = gradcam(clean, x, 'conv', y).raw
    close(truth, gradcam_raw(peer.GradCAM, copy.deepcopy(clean), x, 'conv', y))          # without in-place all agree
    close(truth.relu(), torchcam_map(torchcam.GradCAM, copy.deepcopy(clean), x, 'conv', y))
    assert relative(gradcam_raw(peer.GradCAM, copy.deepcopy(dirty), x, 'conv', y), truth) > 0.1
    assert relative(torchcam_map(torchcam.GradCAM, copy.deepcopy(dirty), x, 'conv', y), truth.relu()) > 0.1
    assert_close(gradcam(dirty, x, 'conv', y).raw, truth, rtol=0, atol=0)

class Functional(nn.Module):
    "The drawn net with `torch.relu` in place of its ReLU modules."
    def __init__(self, net):
        super().__init__()
        self.blocks, self.head = nn.ModuleList(b[:2] for b in net[:3]), net.head
    def forward(self, x):
        for b in self.blocks: x = torch.relu(b(x))
        return self.head(x.mean((2, 3)))

def test_guided_backprop_sees_functions(drawn):
    net, x, y = drawn
    fun, ours = Functional(copy.deepcopy(net)), guided_backprop(net, x, y)
    close(ours, GuidedBackprop(copy.deepcopy(net)).attribute(x.clone().requires_grad_(), target=y).detach())
    one = GuidedBackpropReLUModel(copy.deepcopy(net))(x[:1].clone(), int(y[0]))
    close(ours[:1], torch.from_numpy(one).permute(2, 0, 1)[None])
    blind = GuidedBackpropReLUModel(copy.deepcopy(fun))(x[:1].clone(), int(y[0]))          # finds no module to replace
    plain = torch.autograd.grad(fun(v := x[:1].clone().requires_grad_())[0, y[0]], v)[0]
    close(plain, torch.from_numpy(blind).permute(2, 0, 1)[None])
    assert_close(guided_backprop(fun, x, y), ours, rtol=0, atol=1e-6)
