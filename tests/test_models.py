"What an option of a network says holds for the whole of it."
import pytest, torch
from torch import nn
from eva_cam.models import NORMS, build_model

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
