"What an option of a network says holds for the whole of it, and a file of weights is enough for its network."
import pytest, torch
from torch import nn
from safetensors.torch import load_file
from eva_cam.models import NORMS, build_model, layer_table, load_weights, save_weights, small_stem, to_grid

SMALL = dict(resnet18=dict(width=8), resnet34=dict(width=8), resnet50=dict(width=8), custom_resnet=dict(width=8), fast_net=dict(widths=(8, 16, 16)))
KINDS = dict(batch=nn.BatchNorm2d, layer=nn.GroupNorm, group=nn.GroupNorm, instance=nn.InstanceNorm2d)

@pytest.mark.parametrize('norm', NORMS)
@pytest.mark.parametrize('arch', SMALL)
def test_the_norm_reaches_every_norm(arch, norm):
    model = build_model(arch, norm=norm, **SMALL[arch])
    norms = [m for m in model.modules() if isinstance(m, tuple(KINDS.values()))]
    assert norms and all(type(m) is KINDS[norm] for m in norms)
    if norm == 'layer': assert all(m.num_groups == 1 for m in norms)
    assert len(norms) == len([m for m in build_model(arch, **SMALL[arch]).modules() if isinstance(m, nn.BatchNorm2d)])
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 10)

def test_the_scale_is_of_the_logits():
    whole, eighth = (build_model('custom_resnet', width=8, scale=s).eval() for s in (1., 1/8))
    eighth.load_state_dict(whole.state_dict())
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(eighth(x), whole(x) / 8)

@pytest.mark.parametrize('arch', ['resnet18', 'custom_resnet'])
def test_the_pool_takes_the_mean_or_the_largest(arch):
    x = torch.arange(32.).view(1, 2, 4, 4)
    for pool, want in (('avg', x.mean((2, 3))), ('max', x.amax((2, 3)))):
        torch.testing.assert_close(build_model(arch, pool=pool, **SMALL[arch]).pool(x).flatten(1), want)

class Biased(nn.Module):
    "Adds what a layer makes of a table, no image."
    def __init__(self): super().__init__(); self.table, self.fc = nn.Linear(2, 4), nn.Linear(3, 4)
    def forward(self, x): return self.fc(x.mean((2, 3))) + self.table(torch.ones(15, 15, 2)).mean((0, 1))

def test_the_table_knows_tokens_and_layers_that_no_image_passes():
    from torchvision.models import VisionTransformer
    vit = layer_table(VisionTransformer(32, 4, 2, 2, 64, 64))
    assert set(vit.cam[:-1]) == {'8x8'} and vit.cam.iloc[-1] == ''
    rows = layer_table(Biased()).set_index('name')
    assert rows.params.to_dict() == dict(table=12, fc=16) and rows.field.to_dict() == dict(table='', fc='all') and not any(rows.cam)

class ByName(nn.Linear):
    def forward(self, x): return nn.functional.linear(input=x, weight=self.weight) + nn.functional.linear(x, weight=self.weight)

class Heads(nn.Module):
    "The inside of an attention and its answer, a lone token, a map that is enlarged again in three ways, and weights that are given by name."
    def __init__(self):
        super().__init__()
        self.patch, self.fc = nn.Conv2d(3, 64, 4, 4), ByName(64, 10)
        self.heads, self.token, self.answer = nn.Identity(), nn.Identity(), nn.Identity()
        self.up, self.shuffled, self.transposed = nn.Upsample(scale_factor=4), nn.PixelShuffle(4), nn.ConvTranspose2d(64, 8, 4, 4)
    def forward(self, x):
        maps = self.patch(x)
        tokens, fewer = (t.flatten(2).transpose(1, 2) for t in (maps, nn.functional.avg_pool2d(maps, 2)))
        self.heads(tokens.unflatten(2, (2, 32)).transpose(1, 2)); self.token(tokens[:, :1])
        self.answer((tokens @ fewer.mT).softmax(-1) @ fewer)
        for enlarge in (self.up, self.shuffled, self.transposed): enlarge(maps)
        return self.fc(tokens.mean(1))

def test_the_table_tells_maps_from_other_numbers():
    table = layer_table(Heads()).set_index('name')
    assert table.cam.to_dict() == dict(patch='8x8', heads='', token='', answer='8x8', up='32x32', shuffled='32x32', transposed='32x32', fc='')
    assert (table.macs.fc, table.field.fc) == (2 * 640, 'all')
    with pytest.raises(ValueError, match='no spatial grid'): to_grid(torch.zeros(2, 1, 64), (32, 32))

@pytest.fixture
def asked(monkeypatch):
    "Whatever would open other weights, or go online for them; it is refused, too."
    import socket
    from torchvision.models._api import WeightsEnum
    seen = []
    def refuse(name):
        def f(*a, **k): seen.append(name); raise OSError('refused')
        return f
    for owner, name in ((socket, 'getaddrinfo'), (socket.socket, 'connect'), (torch, 'load'), (WeightsEnum, 'get_state_dict')): monkeypatch.setattr(owner, name, refuse(name))
    return seen

def stored(path, arch, kw, n=10, model=None):
    "A file that asks for the network `arch` with the arguments `kw`."
    return save_weights(model or build_model(arch, n), path / 'w.safetensors', dict(arch=arch, arch_kw=kw, classes=[str(i) for i in range(n)], mean=(.5,) * 3, std=(.25,) * 3))

@pytest.mark.parametrize('arch, kw', [('torchvision/shufflenet_v2_x0_5', dict(weights='DEFAULT')), ('timm/resnet10t', dict(pretrained=True)), ('timm/resnet10t', dict(checkpoint_path='other.pth')),
                                      ('timm/resnet10t', dict(pretrained=True, pretrained_cfg=dict(file='other.pth'), pretrained_cfg_overlay=dict(file='other.pth')))])
def test_weights_come_from_their_file_alone(arch, kw, asked, tmp_path, monkeypatch):
    if arch.startswith('timm'): pytest.importorskip('timm')
    monkeypatch.chdir(tmp_path); (tmp_path / 'other.pth').write_bytes(b'')
    whole = build_model(arch).eval()
    model, _ = load_weights(stored(tmp_path, arch, kw, model=whole))
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(model(x), whole(x)); assert asked == []

@pytest.mark.parametrize('arch', ['timm/hf-hub:somebody/model', 'timm/local-dir:elsewhere', 'timm/hf_hub:a/b', ['resnet18']])
def test_names_that_lead_elsewhere_are_refused(arch, asked, tmp_path):
    with pytest.raises(ValueError, match='would come from elsewhere'): load_weights(stored(tmp_path, arch, {}, model=nn.Linear(1, 1)))
    assert asked == []

@pytest.mark.parametrize('name', ['googlenet', 'inception_v3'])
def test_what_torchvision_changes_with_its_weights_is_kept(name, asked, tmp_path, monkeypatch):
    from torchvision.models import _api, get_model
    fresh = get_model(name, init_weights=False, aux_logits=True).state_dict()
    with monkeypatch.context() as m:
        m.setattr(_api.WeightsEnum, 'get_state_dict', lambda *a, **k: fresh)
        whole = build_model(f'torchvision/{name}', 1000, small=False, weights='DEFAULT').eval()
    model, _ = load_weights(stored(tmp_path, f'torchvision/{name}', dict(weights='DEFAULT', small=False, init_weights=False), 1000, whole))
    x = torch.rand(1, 3, 80, 80)
    torch.testing.assert_close(model(x), whole(x)); assert asked == []

def test_half_precision_leaves_whole_numbers_and_says_what_is_too_large(tmp_path):
    model = nn.Linear(2, 2); model.register_buffer('index', torch.arange(4100).view(2, -1))
    meta = dict(arch='fast_net', arch_kw={}, classes=['a', 'b'], mean=[0.5], std=[0.5])
    kept = load_file(save_weights(model, tmp_path / 'half', meta, half=True))
    assert torch.equal(kept['index'], model.index) and kept['weight'].dtype == torch.float16
    model.weight.data[0, 0] = 1e6
    with pytest.raises(ValueError, match='weight are too large for float16: pass half=False'): save_weights(model, tmp_path / 'x', meta, half=True)
    model.weight.data[0, 0] = torch.inf
    with pytest.raises(ValueError, match='weight are not finite: training has diverged'): save_weights(model, tmp_path / 'x', meta, half=True)

def test_a_small_stem_keeps_the_kind_of_its_numbers():
    assert small_stem(nn.Sequential(nn.Conv2d(3, 4, 7, 2)).double())(torch.rand(1, 3, 8, 8).double()).shape == (1, 4, 8, 8)

def test_what_classifies_no_images_is_refused_before_it_fetches_its_backbone(asked, tmp_path):
    for name in ('fcn_resnet50', 'fasterrcnn_resnet50_fpn'):
        with pytest.raises(ValueError, match='classifies no images'): load_weights(stored(tmp_path, f'torchvision/{name}', {}, model=nn.Linear(1, 1)))
    assert asked == []

def test_the_table_counts_the_products_of_every_window():
    "The attention of a Swin block has four matrices of the width squared for each token; its windows lie where images usually do."
    table = layer_table(build_model('torchvision/swin_t', small=False), (3, 224, 224), depth=4)
    assert table.set_index('name').macs['features.1.0.attn'] == 4 * 96**2 * 56**2
