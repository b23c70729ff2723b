"The six systems as their authors wrote them down: a second copy on purpose, so that nobody changes a published setting by a slip."
import pytest
from eva_cam.recipes import RECIPES

# network; epochs, batch, map layer, author's accuracy; optimiser; schedule; what the pipeline does, the rest being off
PUBLISHED = {
    'eva6_layernorm': ('resnet18', dict(norm='layer', pool='max'), 40, 128, 'layer3', 83.14, dict(kind='sgd', lr=0.01, momentum=0.9), dict(kind='plateau', patience=3, gamma=0.2),
                       dict(pad=4, crop=32, rotate=5, holes=(1, 1), hole_size=(16, 16))),
    'eva6_custom_onecycle': ('custom_resnet', {}, 24, 512, 'layer3', 88.66, dict(kind='sgd', lr=0.4, momentum=0.9, nesterov=True, weight_decay=0.0005), dict(kind='one_cycle', peak=5, start=0.01),
                             dict(pad=4, crop=32, flip=0.5, holes=(1, 1), hole_size=(8, 8))),
    'eva4_step': ('resnet18', {}, 24, 128, 'layer4', 87.51, dict(kind='sgd', lr=0.0005, momentum=0.9, weight_decay=0.2), dict(kind='step', every=10, gamma=1/3), dict(flip=0.5)),
    'eva4_plateau': ('resnet18', {}, 30, 512, 'layer3', 90.71, dict(kind='sgd', lr=0.07, momentum=0.9, weight_decay=0.004), dict(kind='plateau', patience=3, gamma=0.2),
                     dict(flip=0.5, holes=(1, 1), hole_size=(8, 8))),
    'eva7_baseline': ('resnet18', {}, 20, 64, 'layer2', 80.63, dict(kind='sgd', lr=0.01, momentum=0.9), dict(kind='step', every=15, gamma=0.1),
                      dict(pad=4, crop=32, flip=0.5, holes=(1, 1), hole_size=(16, 16))),
    'eva5_albumentations': ('resnet18', {}, 40, 64, 'layer4', 90.35, dict(kind='sgd', lr=0.01, momentum=0.9, weight_decay=0.005), dict(kind='step', every=4, gamma=0.8),
                            dict(flip=0.5, rotate=8, brightness=0.05, contrast=0.05, holes=(2, 2), hole_size=(4, 12))),
}
OFF = dict(pad=0, crop=None, flip=0, rotate=0, brightness=0, contrast=0, holes=(0, 0))

@pytest.mark.parametrize('name', PUBLISHED)
def test_a_system_is_as_its_author_meant_it(name):
    arch, arch_kw, epochs, bs, layer, author, opt, sched, does = PUBLISHED[name]
    r = RECIPES[name]
    assert (r.arch, r.arch_kw, r.epochs, r.bs, r.cam_layer, r.author, r.opt, r.sched) == (arch, arch_kw, epochs, bs, layer, author, opt, sched)
    assert {k: getattr(r.pipeline, k) for k in OFF | does} == OFF | does and r.pipeline.pad_mode == 'constant'
    assert (r.label_smoothing, r.loss, r.clip, r.ema, r.grow, r.drop_last) == (0, 'mean', 0, 0, (), False) and r.valid == (0.1 if sched['kind'] == 'plateau' else 0)

MUON = dict(kind='muon', lr=0.12, momentum=0.6, head_lr=0.5, bias_lr=0.1, bias_momentum=0.85, weight_decay=2e-4)

@pytest.mark.parametrize('name,epochs', [('eva6_layernorm', 20), ('eva4_step', 8), ('eva4_plateau', 16), ('eva7_baseline', 12), ('eva5_albumentations', 20)])
def test_the_improved_form_of_resnet18_is_one_at_different_lengths(name, epochs):
    "Muon, batches of 512, half of the run at 24 pixels; network and map layer stay. Layer norm takes small batches and steps, before a max pool a slower head, and what is about augmentation keeps its own."
    r, f = RECIPES[name].form('improved'), RECIPES[name]
    bs, opt = (128, dict(MUON, lr=0.03, head_lr=0.005, bias_lr=0.02)) if name == 'eva6_layernorm' else (512, MUON)
    assert (r.opt, r.bs, r.epochs, r.valid, r.label_smoothing, r.grow) == (opt, bs, epochs, 0, 0.1, ((0.5, 24, 24), (1, 32, 32)))
    assert r.sched == dict(kind='one_cycle', peak=epochs / 4, start=0.1, end=0.0005)
    own = dict(rotate=8, brightness=0.05, contrast=0.05, holes=(2, 2), hole_size=(4, 12)) if name == 'eva5_albumentations' else dict(holes=(1, 1), hole_size=(8, 8))
    assert {k: getattr(r.pipeline, k) for k in OFF | own} == OFF | dict(pad=2, crop=32, flip='alternate') | own and r.pipeline.pad_mode == 'reflect'
    assert (r.arch, r.arch_kw, r.cam_layer) == (f.arch, f.arch_kw, f.cam_layer) and r.epochs <= f.epochs

def test_growing_images_are_padded_as_their_recipe_says():
    "What is cropped from a larger image counts towards the padding."
    from dataclasses import replace
    from eva_cam.data import load_data
    from eva_cam.recipes import Growing
    ds, r = load_data('sample').train.subset(range(20)), RECIPES['fast'].change(bs=10, grow=((0.5, 24, 24), (0.8, 32, 28), (1, 32, 22)))
    for pad, want in ((4, [4, 2, 0]), (2, [2, 0, 0])): assert [p.pipeline.pad for p in Growing(ds, r.change(pipeline=replace(r.pipeline, pad=pad)), *ds.stats()).phases] == want

def test_layer_norm_learns_in_its_improved_form():
    "With the quick head of the other forms its loss runs away, and comes back to that of guessing, 2.303, at best."
    from eva_cam.compute import Compute
    from eva_cam.train import train_recipe
    r = RECIPES['eva6_layernorm'].form('improved')
    learn = train_recipe(r, bs=100, epochs=4, arch_kw=dict(r.arch_kw, width=16), compute=Compute(channels_last=True), eval_every=9, progress=False)
    assert learn.history[-1]['train_loss'] < 2.2

def test_the_improved_custom_resnet_keeps_batch_peak_and_length():
    "It gets Muon, the eighth of the logits that its first author gave it, smoothed labels, mirrored borders, alternating flips and an end of nearly nothing."
    r, f = RECIPES['eva6_custom_onecycle'].form('improved'), RECIPES['eva6_custom_onecycle']
    assert (r.arch, r.arch_kw, r.opt, r.bs, r.epochs, r.label_smoothing, r.grow) == (f.arch, dict(scale=1/8), MUON, f.bs, f.epochs, 0.1, ())
    assert r.sched == dict(kind='one_cycle', peak=5, start=0.01, end=0.0005)
    assert {k: getattr(r.pipeline, k) for k in OFF} == OFF | dict(pad=4, crop=32, flip='alternate', holes=(1, 1)) and (r.pipeline.hole_size, r.pipeline.pad_mode) == ((8, 8), 'reflect')

def test_our_own_two():
    "`fast` with the batch and rates published for its network and optimiser (K. Jordan 2024), `best` with what was chosen for it."
    fast, best = RECIPES['fast'], RECIPES['best']
    assert fast.opt == dict(kind='muon', lr=0.24, momentum=0.6, head_lr=0.67, bias_lr=0.053, bias_momentum=0.85, weight_decay=0.004, whiten_epochs=3)
    assert (fast.bs, fast.epochs, fast.label_smoothing, fast.loss, fast.drop_last, fast.grow, fast.sched) == (2000, 10.4, 0.2, 'sum', True, ((0.3, 24, 24), (1, 32, 32)), dict(kind='linear'))
    assert (fast.pipeline.pad, fast.pipeline.pad_mode, fast.pipeline.flip, fast.cam_layer, fast.valid) == (2, 'reflect', 'alternate', 'block2', 0)
    assert best.opt == MUON and best.sched == dict(kind='one_cycle', peak=12, start=0.1, end=0.0005) and best.grow == ((0.5, 24, 24), (1, 32, 32))
    assert (best.bs, best.epochs, best.label_smoothing, best.ema, best.cam_layer) == (512, 60, 0.1, 0.995, 'layer3')
    assert {k: getattr(best.pipeline, k) for k in OFF} == OFF | dict(pad=4, crop=32, flip='alternate', holes=(1, 1)) and (best.pipeline.hole_size, best.pipeline.pad_mode) == ((12, 12), 'reflect')
