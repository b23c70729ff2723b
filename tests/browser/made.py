"A small network with fixed random weights over the shipped sample: plenty of mistakes, the same ones every time."
import numpy as np, torch
from torch import nn
from eva_cam.data import CIFAR10_MEAN, CIFAR10_STD, ImageSet, load_data
from eva_cam.report import interpret

class Net(nn.Module):
    def __init__(self, classes=10):
        super().__init__()
        self.early = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU())
        self.late = nn.Sequential(nn.Conv2d(16, 24, 3, 2, 1), nn.ReLU())
        self.fc = nn.Linear(24, classes)
    def forward(self, x): return 8 * self.fc(self.late(self.early(x)).mean((2, 3)))

def net(classes=10):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Net(classes).eval()

NASTY = ['<script>boom()</script>', '"quotes" & \'more\'', 'çà et là', 'a class with a name that is much longer than anything else on this page']

def made(n=200, size=None, grain=0):
    "The interpretation that the page and the panel are tested on."
    ds = load_data('sample', size=size).test.subset(np.arange(n))
    if grain: ds.x = (ds.x + np.random.default_rng(0).normal(0, grain, ds.x.shape)).clip(0, 255).astype(np.uint8)
    ds.classes = [*NASTY, *ds.classes[4:]]
    history = [dict(train_loss=2 / e, valid_loss=2.1 / e, valid_acc=1 - .7 / e, lr=.1 / e) for e in range(1, 6)]
    return interpret(net(), ds, CIFAR10_MEAN, CIFAR10_STD, 'late', meta=dict(arch='drawn at random', seed=0, history=history))

def no_mistakes():
    "The same, with every label set to what the network says."
    found = made(60)
    return interpret(found.model, ImageSet(found.ds.x, found.pred, found.ds.classes, name='all right'), CIFAR10_MEAN, CIFAR10_STD, 'late')

def one_image():
    found = made(1)
    return interpret(net(), found.ds, CIFAR10_MEAN, CIFAR10_STD, 'late')

def one_class():
    ds = load_data('sample').test
    ds = ImageSet(ds.x[:20], np.zeros(20, int), ['thing'], name='one class')
    return interpret(net(1), ds, CIFAR10_MEAN, CIFAR10_STD, 'late')
