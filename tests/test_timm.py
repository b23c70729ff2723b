"""Maps for timm models with random weights: the layer is found, the grid is inferred, the map has the shape of the image."""
import pytest, torch

timm = pytest.importorskip('timm')
from eva_cam.gradcam import cam_layers, gradcam

MODELS = dict(  # arguments, image size, a layer and its grid, the layer that should be picked
    resnet18=({}, (96, 96), 'layer3', (6, 6), 'layer3'),
    convnext_atto=({}, (224, 160), 'stages.3', (7, 5), 'stages.2'),
    mobilenetv3_small_050=({}, (224, 224), 'blocks.4', (7, 7), 'blocks'),
    vit_tiny_patch16_224=(dict(img_size=(96, 160)), (96, 160), 'blocks.11.norm1', (6, 10), 'blocks.11.norm1'),
    deit_tiny_distilled_patch16_224=({}, (224, 224), 'blocks.11.norm1', (14, 14), 'blocks.11.norm1'),
    swin_tiny_patch4_window7_224=({}, (224, 224), 'layers.3', (7, 7), 'norm'),
)

@pytest.mark.parametrize('name', MODELS)
def test_timm(name):
    kw, size, layer, grid, best = MODELS[name]
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, num_classes=10, **kw)
    for p in model.get_classifier() if isinstance(model.get_classifier(), tuple) else [model.get_classifier()]: torch.nn.init.normal_(p.weight, std=0.1)
    x = torch.randn(2, 3, *size)
    r = gradcam(model, x, layer)
    assert r.raw.shape == (2, *grid) and r.cam.shape == (2, *size) and r.raw.isfinite().all()
    table = cam_layers(model, x[:1])
    pick = table[table.pick].iloc[0]
    assert pick.layer == best and pick.reach > 0.1
    chosen = gradcam(model, x[:1], pick.layer)
    assert chosen.flags() != ['flat'] and chosen.raw.isfinite().all()
