"""Train recipes at full scale and judge the runs that are kept.

    python benchmarks/recipes.py                                  # judge the kept runs
    python benchmarks/recipes.py --data cifar10.npz --out runs    # train what is missing, then judge
    python benchmarks/recipes.py --data cifar10 --recipes fast eva4_step --seeds 0 1 2 --forms improved

One JSON file a run, RECIPE_FORM_SEED.json. An interrupted run goes on where it was with the same command. Accuracy is on the test images: after each
epoch for the curve, and at the end plain and with the flipped view, which is what counts; nothing is chosen by it. A goal is judged by the mean over the
seeds that were run in full, with the settings that the recipe has today; the better form where there are two.
"""
import argparse, json, statistics, sys
from pathlib import Path
from eva_cam.data import load_data
from eva_cam.learner import Diverged
from eva_cam.recipes import RECIPES, Recipe
from eva_cam.train import train_recipe

KEPT = Path(__file__).resolve().parent / 'results' / 'recipes'
GOALS = dict(eva6_layernorm=92, eva6_custom_onecycle=94.5, eva4_step=91, eva4_plateau=94, eva7_baseline=93, eva5_albumentations=94, fast=94, best=96)  # percent
FLIPPED = ('fast',)  # goals that are meant with the flipped view
MINUTES = dict(fast=6)  # of training, on two idle cores

def of_today(run, **changes):
    "Whether a run was made with the settings that its recipe has today."
    def read(settings): return Recipe.from_dict(json.loads(json.dumps(settings))).settings()  # what came later takes its default
    try: return read(run['settings']) == read(RECIPES[run['recipe']].form(run['form']).change(**changes).settings())
    except (KeyError, TypeError, ValueError): return False  # settings that a recipe does not have

def run(recipe, form, seed, data, out, epochs):
    "Train one recipe, or go on with it, and write its JSON; gives False where it was stopped by hand."
    name = f'{recipe}_{form}_{seed}' + (f'_{epochs:g}epochs' if epochs else '')
    path, folder = out / f'{name}.json', out / 'checkpoints' / name
    changes = {'epochs': epochs} if epochs else {}
    if path.exists():
        print(f'{path.name} is there' + ('' if of_today(json.loads(path.read_text()), **changes) else ', with other settings than the recipe has today: move it away to train again'))
        return True
    print(f'{recipe}, {form}, seed {seed}', flush=True)
    try: learn = train_recipe(recipe, data, seed, folder, resume=any(folder.glob('ckpt_*.pt')), form=form, **changes)
    except Diverged as e: print(f'{name}: {e}'); return True  # nothing to keep of it, and the others can go on
    if learn.step < learn.total: return False
    aside = path.with_suffix('.aside')
    aside.write_text(json.dumps(learn.figures, indent=1) + '\n'); aside.replace(path)
    for f in folder.glob('ckpt_*.pt'): f.unlink()
    return True

def judge(folder):
    "Print a line a recipe; gives the measures."
    kept = [json.loads(p.read_text()) for r in RECIPES for p in sorted(folder.glob(f'{r}_*.json')) if not p.stem.endswith('epochs')]
    runs, measures = [r for r in kept if r['images'] >= 45_000 and of_today(r)], []
    for name, goal in GOALS.items():
        key, best = 'test_accuracy_flipped' if name in FLIPPED else 'test_accuracy', None
        for form in ('faithful', 'improved'):
            seeds = [r for r in runs if (r['recipe'], r['form']) == (name, form)]
            if not seeds: continue
            values, quick = [100 * r[key] for r in seeds], min(seeds, key=lambda r: r['seconds'])
            m = dict(name=f'{name} ({form})', value=statistics.mean(values), n=len(values), spread=[min(values), max(values)], goal=goal, seconds=quick['seconds'], device=quick['device'])
            if best is None or m['value'] > best['value']: best = m
            print(f"{m['name']}: {m['value']:.2f} % (n={m['n']}, {min(values):.2f} to {max(values):.2f}), {m['seconds']:.0f} s of training in the quickest run, on {m['device']}")
        if best is None: print(f'{name}: not run in full'); continue
        best['holds'] = best['value'] >= goal; measures.append(best)
        print(f"{name}: {best['value']:.2f} (goal at least {goal}): {'holds' if best['holds'] else 'SHORT'}")
        for device in sorted({r['device'] for r in runs if r['recipe'] == name and r['device'].endswith(', 2 threads')}) if name in MINUTES else []:
            minutes = [r['seconds'] / 60 for r in runs if (r['recipe'], r['device']) == (name, device)]
            m = dict(name=f'{name}: minutes of training on two cores', device=device, value=statistics.mean(minutes), n=len(minutes), goal=MINUTES[name]); m['holds'] = m['value'] <= m['goal']; measures.append(m)
            print(f"{m['name']}, {device}: {m['value']:.1f} (goal at most {m['goal']}): {'holds' if m['holds'] else 'SHORT'}")
    return measures

def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--data', help="'cifar10', the path of an .npz, or a folder that holds one; without it, only kept runs are judged")
    ap.add_argument('--out', type=Path, default=KEPT, help='folder of the JSON files')
    ap.add_argument('--recipes', nargs='+', default=['fast', 'eva6_custom_onecycle', *[r for r in GOALS if r not in ('fast', 'eva6_custom_onecycle')]], choices=list(RECIPES))
    ap.add_argument('--seeds', nargs='+', type=int, default=[0])
    ap.add_argument('--forms', nargs='+', default=['faithful', 'improved'], choices=['faithful', 'improved'], help='forms to train, of those that a recipe has')
    ap.add_argument('--epochs', type=float, help='for a trial: such runs are not judged')
    a = ap.parse_args()
    if a.data:
        try:
            a.out.mkdir(parents=True, exist_ok=True)
            data = load_data(a.data)
            for seed in a.seeds:
                for recipe in a.recipes:
                    for form in a.forms:
                        if form == 'improved' and not RECIPES[recipe].improved: continue
                        if not run(recipe, form, seed, data, a.out, a.epochs): sys.exit(130)
        except (ValueError, OSError) as e: print(f'recipes.py: {e}', file=sys.stderr); sys.exit(2)
    measures = judge(a.out)
    if a.out.resolve() == KEPT: (KEPT.parent / 'recipes.json').write_text(json.dumps(dict(measures=measures), indent=1) + '\n')
    sys.exit(not measures or not all(m['holds'] for m in measures))

if __name__ == '__main__': main()
