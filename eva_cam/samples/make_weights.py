"""Train the network that ships with eva_cam on all 50,000 training images, and write fast.safetensors.

    python -m eva_cam.samples.make_weights cifar10 runs/shipped     # the data: 'cifar10', or an .npz of it

The recipe is `fast` without its haste: 18 epochs, all of them at 32 pixels. After an interruption the same command goes on.
"""
import sys
from pathlib import Path
from eva_cam.data import Batches, load_data
from eva_cam.models import load_weights, save_weights
from eva_cam.train import accuracy, predict, train_recipe

SEED, EPOCHS = 0, 18
SETTINGS = dict(epochs=EPOCHS, grow=())

def make_weights(source, run, out):
    "Train in the folder `run`, then write half-precision weights to `out`, with the accuracy of these very weights."
    data, resume = load_data(source), any(Path(run).glob('ckpt_*.pt'))
    learn = train_recipe('fast', data, SEED, run, resume, eval_every=EPOCHS, **SETTINGS)
    if learn.stopped: sys.exit('stopped; the same command goes on')
    learn.save(out, half=True)
    model, meta = load_weights(out)
    test = Batches(data.test, 1000, mean=meta['mean'], std=meta['std'])
    got = {k: accuracy(*predict(model, test, flip)) for k, flip in (('accuracy', False), ('accuracy_flipped', True))}
    save_weights(model, out, dict(meta, **got), half=True)
    print(f"{out}: {got['accuracy']:.2%} of {len(data.test):,} test images, {got['accuracy_flipped']:.2%} with the flipped view")

if __name__ == '__main__':
    if len(sys.argv) != 3: sys.exit('usage: python -m eva_cam.samples.make_weights DATA RUN_FOLDER')
    make_weights(*sys.argv[1:], Path(__file__).parent / 'fast.safetensors')
