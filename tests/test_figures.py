"No figure stands in the README or the model card that was not run: each is recomputed from the results that are kept."
import json, re, statistics
import pytest
from safetensors import safe_open
from conftest import ROOT

README = (ROOT / 'README.md').read_text(encoding='utf-8')

def runs(recipe, form):
    "Kept full-scale runs of a recipe."
    found = [json.loads(p.read_text(encoding='utf-8')) for p in sorted((ROOT / 'benchmarks/results').glob('recipes/*.json'))]
    return [r for r in found if r['recipe'] == recipe and r['form'] == form]

def table():
    "Rows of the README's recipe table as lists of cells."
    rows = re.findall(r'^\| `(\w+)`(?: \((\w+)\))? \|(.*)\|$', README, re.M)
    return [(name, form or 'faithful', [c.strip() for c in cells.split('|')]) for name, form, cells in rows]

def test_all_eight_recipes_stand_in_the_table():
    from eva_cam.recipes import RECIPES
    assert {name for name, _, _ in table()} == set(RECIPES) and len(RECIPES) == 8

@pytest.mark.parametrize('name,form,cells', table(), ids=lambda v: v if isinstance(v, str) else '')
def test_row_says_what_was_run(name, form, cells):
    _, plain, flipped, epochs, minutes, seeds, *_ = cells
    kept = runs(name, form)
    if not kept: assert plain == flipped == minutes == 'not run' and seeds == '0'; return
    mean = lambda k: 100 * statistics.mean(r[k] for r in kept)
    assert plain.startswith(f"{mean('test_accuracy'):.2f}") and flipped.startswith(f"{mean('test_accuracy_flipped'):.2f}")
    assert float(epochs) == kept[0]['epochs'] and seeds == str(len(kept))
    assert float(minutes) == round(min(r['seconds'] for r in kept) / 60, 1)  # of the quickest run, as the README says

def test_shipped_network_is_as_good_as_its_card_says():
    with safe_open(ROOT / 'eva_cam/samples/fast.safetensors', 'pt') as f: meta = json.loads(f.metadata()['eva_cam'])
    card = (ROOT / 'eva_cam/samples/MODEL_CARD.md').read_text(encoding='utf-8')
    for key in ('accuracy', 'accuracy_flipped'):
        for text in (README, card): assert f'{100 * meta[key]:.2f} %' in text
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
