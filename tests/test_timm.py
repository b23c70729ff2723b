"""Maps for timm models with random weights: the layer is found, the grid is inferred, the map has the shape of the image."""
import json, re, subprocess
import pytest, torch
from PIL import Image
from safetensors.torch import save_file

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

def test_the_command_reports_on_a_timm_model_and_photographs(tmp_path):
    from eva_cam.data import load_data, resize
    sample = load_data('sample').test
    for c in ('cat', 'dog'):
        (tmp_path / 'photos' / 'test' / c).mkdir(parents=True)
        for i, im in enumerate(resize(sample.x[sample.y == sample.classes.index(c)][:4], 256)): Image.fromarray(im).save(tmp_path / 'photos/test' / c / f'{i}.jpg')
    torch.manual_seed(0)
    save_file(timm.create_model('mobilenetv3_small_050', num_classes=2).state_dict(), tmp_path / 'w.safetensors')
    cmd = ['eva_cam_report', '--data', 'photos', '--weights', 'w.safetensors', '--arch', 'timm/mobilenetv3_small_050', '--size', '224', '--layer', 'blocks.4', '--out', 'r.html']
    r = subprocess.run(cmd, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert r.returncode == 0 and 'r.html' in r.stdout, r.stderr
    page = json.loads(re.search(r'id="page">(.*?)</script>', (tmp_path / 'r.html').read_text(), re.S)[1])
    assert page['size'] == [224, 224] and page['grid'] == [7, 7] and page['layer'] == 'blocks.4' and page['classes'] == ['cat', 'dog']
    r = subprocess.run([*cmd, '--arch', 'timm/mobilenetv3_small_051'], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert r.returncode == 2 and r.stderr.count('\n') == 1 and 'mobilenetv3_small_05' in r.stderr, r.stderr

def test_a_transformer_of_another_size_is_refused():
    from eva_cam.models import build_model
    from eva_cam.recipes import RECIPES
    from eva_cam.train import learner_for
    with pytest.raises(ValueError, match='cuts images into patches'): build_model('timm/swin_tiny_patch4_window7_224')
    recipe = RECIPES['eva4_step'].change(arch='timm/swin_tiny_patch4_window7_224', arch_kw=dict(small=False, depths=(1, 1, 1, 1), embed_dim=24), cam_layer='layers.1')
    with pytest.raises(ValueError, match=r"cannot take images of 32x32 pixels \(Input height"): learner_for(recipe)
