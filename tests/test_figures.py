"No figure stands in the README or the model card that was not run: each is recomputed from the results that are kept."
import json, re, statistics
import pytest
from safetensors import safe_open
from conftest import ROOT, benchmark

OF_TODAY = benchmark('recipes').of_today
README = (ROOT / 'README.md').read_text(encoding='utf-8')

def runs(recipe, form):
    "Kept full-scale runs of a recipe, with the settings that it has today."
    found = [json.loads(p.read_text(encoding='utf-8')) for p in sorted((ROOT / 'benchmarks/results').glob(f'recipes/{recipe}_{form}_*.json'))]
    return [r for r in found if (r['recipe'], r['form']) == (recipe, form) and OF_TODAY(r)]

def table():
    "Rows of the README's recipe table as lists of cells."
    rows = re.findall(r'^\| `(\w+)`(?: \((\w+)\))? \|(.*)\|$', README, re.M)
    return [(name, form or 'faithful', [c.strip() for c in cells.split('|')]) for name, form, cells in rows]

def test_all_eight_recipes_stand_in_the_table():
    from eva_cam.recipes import RECIPES
    assert {name for name, _, _ in table()} == set(RECIPES) and len(RECIPES) == 8

@pytest.mark.parametrize('name,form,cells', table(), ids=lambda v: v if isinstance(v, str) else '')
def test_row_says_what_was_run(name, form, cells):
    _, plain, flipped, epochs, minutes, hardware, seeds, *_ = cells
    kept = runs(name, form)
    if not kept: assert plain == flipped == minutes == hardware == 'not run' and seeds == '0'; return
    mean = lambda k: 100 * statistics.mean(r[k] for r in kept)
    assert plain.startswith(f"{mean('test_accuracy'):.2f}") and flipped.startswith(f"{mean('test_accuracy_flipped'):.2f}")
    assert float(epochs) == kept[0]['epochs'] and seeds == str(len(kept))
    for cell, key in ((plain, 'test_accuracy'), (flipped, 'test_accuracy_flipped')):
        if len(kept) > 1: assert cell.endswith(f'({100 * min(r[key] for r in kept):.2f} to {100 * max(r[key] for r in kept):.2f})')
    device = {'two CPU cores': 'x86_64 CPU, 2 threads', 'two CPU cores, in float32': 'Intel(R) Xeon(R) Processor, 2 threads', 'two CPU cores with AMX': 'Intel(R) Xeon(R) Processor with AMX, 2 threads', 'one CPU core with AMX': 'Intel(R) Xeon(R) Processor with AMX, 1 thread'}[hardware]
    quickest = min(kept, key=lambda r: r['seconds'])
    assert quickest['device'] == device and float(minutes) == round(quickest['seconds'] / 60, 1)

def result(name): return json.loads((ROOT / 'benchmarks/results' / f'{name}.json').read_text(encoding='utf-8'))

def test_augmented_bytes_are_measured_against_bytes(monkeypatch):
    "Neither side of a ratio does work that the other is spared."
    augment = benchmark('augment')
    monkeypatch.setattr(augment, 'ROUNDS', 1)
    monkeypatch.setattr(augment, 'batches_speed', lambda make, n=90: 60.)
    monkeypatch.setattr(augment, 'loader_speed', lambda dataset, workers, n: dict(uint8=3., float32=2.)[str(dataset[0][0].dtype).split('.')[-1]])
    monkeypatch.setattr(augment.torch.cuda, 'is_available', lambda: False)
    ratios = {k: v for k, (v, _, unit, _) in augment.measure().items() if unit == 'times'}
    assert len(ratios) == 5 and {k: v for k, v in ratios.items() if v != 30} == {'uint8, against 0 workers': 20, 'uint8, against 2 workers': 20}

def test_rows_of_training_say_what_was_measured():
    train = result('train'); custom, resnet, over = (m['value'] for m in train['measures'])
    holds = [m['holds'] for m in train['measures']]
    assert verdict(f'| {custom:.1f} and {resnet:.1f} times | at least 2.2 and 2.5 |') == all(holds[:2]) and verdict(f'| {100 * over:.1f} % | at most 2 % |') == holds[2]
    strips = [m['strips'] for m in train['measures'][:2]]
    assert f'of the custom ResNet and of ResNet-18 {strips[0]:.2f} and {strips[1]:.2f} times as fast' in README
    other = result('train_without_amx'); custom, resnet, over = (m['value'] for m in other['measures'])
    holds, winograd = [m['holds'] for m in other['measures']], [m['winograd'] for m in other['measures'][:2]]
    assert verdict(f'| {custom:.2f} and {resnet:.2f} times | at least 1.25 |') == all(holds[:2]) and verdict(f'| {100 * over:.2f} % | at most 2 % |') == holds[2]
    assert f"one by one, {other['measures'][2]['n']} of each" in README
    assert f"Winograd's convolutions make it {winograd[0]:.2f} and {winograd[1]:.2f} times as fast" in README and 'AMX' not in other['device']
    both = train['gflops']; assert f"at {both['float32']:.0f} GFLOP/s in float32 and {both['bfloat16']:.0f} in bfloat16: {both['bfloat16'] / both['float32']:.1f} times" in README

def test_rows_of_the_finder_say_what_was_measured():
    found = result('lr_find'); share, cost = (m['value'] for m in found['measures'])
    hits = lambda who: max(round(10 * v) for k, v in found['share'].items() if k.startswith(who))
    assert verdict(f"| of ten pairs of network and seed, how many were given a learning rate within a factor of 2 of the best (found by three trainings at each of nine rates or more); fastai's best rule and pytorch-lr-finder beside | {round(10 * share)}; {hits('fastai')} and {hits('pytorch')} | at least 9 |") == (share >= 0.9)
    assert verdict(f'| {100 * cost:.2f} % | below 1 % |') == (cost < 0.01) and len(found['pairs']) == 10 and (found['seeds'], found['orders']) == ([20, 23], 3)
    assert all(bracketed(p) for p in found['pairs'])

def bracketed(net):
    "At least nine rates, three trainings each, and the outermost count for next to nothing in the best rate."
    import numpy as np
    lrs, losses = [float(lr) for lr in net['held_loss']], np.mean(list(net['held_loss'].values()), axis=1)
    w = np.exp((losses.min() - losses) / 0.05); w /= w.sum()
    return len(lrs) >= 9 and all(len(t) == 3 for t in net['held_loss'].values()) and max(w[0], w[-1]) <= 0.02 and abs(np.exp(w @ np.log(lrs)) / net['best'] - 1) < 1e-6

def test_the_finders_rule_was_chosen_as_its_lesson_says():
    "The minimum from a fifteenth to nine times the best rate, and the rule's own line and hits."
    import inspect
    import numpy as np
    from eva_cam.lr_find import fitted
    choice, judged = result('lr_find_choice'), result('lr_find')
    nets, (slope, scale) = choice['networks'], (inspect.signature(fitted).parameters[k].default for k in ('slope', 'scale'))
    best, fallen, lowest = (np.log([f(n) for n in nets]) for f in (lambda n: 3 * [n['best']], lambda n: n['fallen'], lambda n: n['minimum']))
    fit = lambda seen: np.polyfit(seen.ravel(), best.ravel(), 1)
    hits = lambda seen, line: int(np.sum(np.abs(np.polyval(line, seen) - best) <= np.log(2)))
    assert round(np.exp(np.max(best - lowest))) == 15 and round(np.exp(np.max(lowest - best))) == 9
    assert slope == round(fit(fallen)[0], 2) and scale == round(np.exp(fit(fallen)[1]), 2)
    lesson = (ROOT / 'nbs/03_lr_find.ipynb').read_text(encoding='utf-8')
    assert f'{scale} times that rate to the power of {slope}.' in lesson and f'Of the {fallen.size} findings' in lesson
    assert f'fitted to, {hits(fallen, (slope, np.log(scale)))} came within a factor of two of the best rate; a line fitted to the lowest loss would have come as near in {hits(lowest, fit(lowest))}.' in lesson
    assert len(nets) == 24 and all(bracketed(n) for n in nets)
    assert not set(choice['seeds']) & set(judged['seeds']) and not {n['network'] for n in nets} & {p['network'] for p in judged['pairs']}

def test_muon_was_chosen_as_its_lesson_says():
    "By single runs on held-out images that differ in the optimiser alone."
    from eva_cam.recipes import RECIPES
    muon, sgd = result('recipes_choice')['runs']
    lesson = (ROOT / 'nbs/01e_recipes.ipynb').read_text(encoding='utf-8')
    assert f"in {100 * muon['held_out_accuracy']:.1f} % of the other 5,000 with Muon (01b) and in {100 * sgd['held_out_accuracy']:.1f} % with SGD" in lesson
    assert muon['opt'] == RECIPES['eva6_custom_onecycle'].form('improved').opt and sgd['opt'] == RECIPES['eva6_custom_onecycle'].opt and muon['images'] == sgd['images'] == 45_000

def test_small_batches_for_layer_norm_were_chosen_as_its_lesson_says():
    from eva_cam.recipes import RECIPES
    small, same, twice, _ = result('recipes_choice')['layer_norm']['runs']
    lesson = (ROOT / 'nbs/recipes/eva6_layernorm.ipynb').read_text(encoding='utf-8')
    percent = [f"{100 * r['held_out_accuracy']:.1f} %" for r in (small, same, twice)]
    assert f'right in {percent[0]} of the other 5,000; with batches of 512 in {percent[1]} at the same rate and {percent[2]} at twice that' in lesson
    r = RECIPES['eva6_layernorm'].form('improved')
    assert (small['opt'], small['bs']) == (r.opt, r.bs) and (same['opt'], same['bs']) == (r.opt, 512) and (twice['opt'], twice['bs']) == (dict(r.opt, lr=0.06), 512)

def verdict(text):
    "Whether the README's row with `text` says that its goal holds."
    rows = [l for l in README.splitlines() if text in l]; assert len(rows) == 1, text
    return {'holds': True, 'short': False}[rows[0].split('|')[-2].strip()]

def test_rows_of_the_report_say_what_was_measured():
    report = result('report'); time, memory = report['measures'][:2]
    assert verdict(f"{report['mistakes']} mistakes) over plain evaluation: time, peak memory | {time['value']:.2f}, {memory['value']:.2f} | at most {time['goal']} |") == (time['holds'] and memory['holds'])
    assert all(m['spread'][0] <= m['value'] <= m['spread'][1] and m['holds'] for m in report['measures']) and time['goal'] == memory['goal']
    assert f"those of the report's time from {time['spread'][0]:.2f} to {time['spread'][1]:.2f}" in README

@pytest.mark.parametrize('name,kind,text', [('augment_epyc', 'normalised float32', 'with 0 and 2 workers, on the EPYC'), ('augment', 'normalised float32', 'the same on the Xeon without AMX'),
                                            ('augment', 'uint8', 'against albumentations that makes uint8, too, on the Xeon without AMX')])
def test_rows_of_augmentation_say_what_was_measured(name, kind, text):
    none, two = (result(name)['measures'][f'{kind}, against {k} workers'] for k in (0, 2))
    assert verdict(f"{text} | {none['value']:.0f} and {two['value']:.0f} times | at least {none['goal']} and {two['goal']} |") == all(m['value'] >= m['goal'] for m in (none, two))
    if (name, kind) == ('augment', 'normalised float32'): assert f"from {min(none['rounds']):.0f} to {max(none['rounds']):.0f} times" in README

def test_rows_of_recipes_say_what_was_judged():
    kept = {m['name']: m for m in result('recipes')['measures']}
    fast, minutes = kept['fast (faithful)'], kept['fast: minutes of training on two cores']
    assert verdict(f"| {fast['value']:.2f} %, {minutes['value']:.1f} | at least {fast['goal']} %, at most {minutes['goal']} |") == (fast['holds'] and minutes['holds'])
    for m in (m for k, m in kept.items() if k.endswith('(improved)')): assert verdict(f"| {m['value']:.2f} % | at least {m['goal']} % |") == m['holds']

def test_the_arithmetic_of_fast_is_the_share_that_is_said():
    "Forward and backward of every image, at the sizes of its growth."
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from eva_cam.models import build_model
    from eva_cam.recipes import RECIPES
    recipe, done, total = RECIPES['fast'], 0., 0.
    for share, _, side in recipe.grow:
        with FlopCounterMode(display=False) as flops: build_model(recipe.arch)(torch.zeros(2, 3, side, side)).sum().backward()
        total += (share - done) * recipe.epochs * 50_000 * flops.get_total_flops() / 2; done = share
    minutes = next(m['value'] for m in result('recipes')['measures'] if 'minutes' in m['name'])
    rate = result('train')['gflops']['bfloat16'] * 1e9
    assert f'The {total / 1e12:.0f} TFLOP of `fast` in {minutes:.1f} minutes are {100 * total / minutes / 60 / rate:.0f} % of what it multiplies at' in README

def test_shipped_network_is_as_good_as_its_card_says():
    with safe_open(ROOT / 'eva_cam/samples/fast.safetensors', 'pt') as f: meta = json.loads(f.metadata()['eva_cam'])
    card = (ROOT / 'eva_cam/samples/MODEL_CARD.md').read_text(encoding='utf-8')
    for key in ('accuracy', 'accuracy_flipped'):
        for text in (README, card): assert f'{100 * meta[key]:.2f} %' in text
    from eva_cam.recipes import Recipe, get_recipe
    from eva_cam.samples.make_weights import SEED, SETTINGS
    again = get_recipe('fast').change(**SETTINGS).settings()
    assert again == Recipe.from_dict(meta['recipe']).settings() and SEED == meta['seed']
    for said in (meta['data'], f"seed {meta['seed']}", f"{meta['recipe']['epochs']:g} epochs", meta['versions']['torch']): assert said in card

@pytest.mark.parametrize('key,least', [('accuracy', 0.935), ('accuracy_flipped', 0.94)])
def test_shipped_network_reaches_its_goals(key, least):
    with safe_open(ROOT / 'eva_cam/samples/fast.safetensors', 'pt') as f: assert json.loads(f.metadata()['eva_cam'])[key] >= least

def test_shipped_network_on_the_shipped_images():
    "Within what chance allows for 1,000 of the 10,000 images: four standard errors."
    from eva_cam.data import Batches, load_data
    from eva_cam.models import pretrained
    from eva_cam.train import accuracy, predict
    model, meta = pretrained()
    got = accuracy(*predict(model, Batches(load_data('sample').test, 500, mean=meta['mean'], std=meta['std'])))
    assert abs(got - meta['accuracy']) < 4 * (meta['accuracy'] * (1 - meta['accuracy']) / 1000)**0.5
