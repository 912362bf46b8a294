"""Waves on their way to the device: pinned for a GPU only, and the same values in every case."""

import os

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from upstream_elp.training import batches, waves
from upstream_elp.training.batches import Epoch


class Items(Dataset):
    """Items ``(wave, label, the process that read it)``."""

    def __len__(self):
        return 5

    def __getitem__(self, index):
        return np.full(4 + index, index, dtype=np.float32), index, os.getpid()


def transpose(items):
    return tuple(map(list, zip(*items, strict=True)))


class Expert:
    """A task whose loader has two worker processes or none."""

    def __init__(self, workers=0):
        self.workers = workers

    def get_dataloader(self, split, epoch=0):
        return DataLoader(Items(), batch_size=2, num_workers=self.workers, collate_fn=transpose)


@pytest.fixture
def made(monkeypatch):
    """The loaders that epochs make."""
    found = []

    class Noted(DataLoader):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            found.append(self)

    monkeypatch.setattr(batches, "DataLoader", Noted)
    return found


@pytest.mark.parametrize(("device", "pins"), [("cpu", False), ("cuda", True), (torch.device("cuda", 1), True)])
@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true")
def test_only_batches_for_a_gpu_are_pinned(device, pins, made):
    found = list(Epoch(Expert(), "train", epoch=0, seed=0, device=device))
    assert [loader.pin_memory for loader in made] == [pins]
    assert isinstance(found[0], waves.WaveBatch) == pins
    for number, (wavs, labels, _) in enumerate(found):
        assert labels == list(range(5))[2 * number : 2 * number + 2]
        for wav, tensor in zip(wavs, waves.waves_on(wavs, "cpu"), strict=True):
            assert tensor.dtype == torch.float32 and torch.equal(tensor, torch.as_tensor(wav))


def test_pinning_leaves_the_rest_of_a_batch(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self + 100)
    labels = [torch.zeros(1)]
    batch = waves.Pinnable(transpose)([(np.zeros(3), labels[0])])
    found, others = batch.pin_memory()
    assert found[0].tolist() == [100, 100, 100] and found[0].dtype == torch.float32
    assert others[0] is labels[0] and batch[0][0].tolist() == [0, 0, 0]


def test_a_batch_without_usable_items_stays_none():
    assert waves.Pinnable(lambda items: None)([1]) is None


def test_a_loader_is_changed_once():
    loader = Expert().get_dataloader("train")
    assert waves.pin_for(loader, "cpu") is loader and loader.collate_fn is transpose
    for _ in range(2):
        assert waves.pin_for(loader, "cuda").collate_fn.collate is transpose


def test_copies_to_a_gpu_do_not_wait(monkeypatch):
    calls = []
    monkeypatch.setattr(torch.Tensor, "to", lambda self, device, *, non_blocking: calls.append((device, non_blocking)))
    for device in ("cpu", "cuda:1", "mps"):
        waves.waves_on([np.zeros(3)], device)
    assert calls == [("cpu", False), ("cuda:1", True), ("mps", False)]


def test_workers_decode_all_audio_ahead_of_the_steps():
    """The main process reads no item, and further batches are ready or being made while the first one is used."""
    loader = Expert(workers=2).get_dataloader("train")
    continued = batches._continued(loader, (0, 0), 0)
    iterator = iter(continued)
    next(iterator)
    assert continued.prefetch_factor == 2 and iterator._send_idx == 3  # of 3 batches, all were asked for
    readers = {pid for _, _, pids in Epoch(Expert(workers=2), "train", epoch=0, seed=0) for pid in pids}
    assert len(readers) == 2 and os.getpid() not in readers


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("workers", [0, 2])
def test_pinned_waves_arrive_on_a_gpu(workers):
    for wavs, labels, _ in Epoch(Expert(workers), "train", epoch=0, seed=0, device="cuda"):
        assert all(wav.is_pinned() for wav in wavs)
        for label, wav in zip(labels, waves.waves_on(wavs, "cuda"), strict=True):
            assert wav.is_cuda and wav.tolist() == [label] * (4 + label)
