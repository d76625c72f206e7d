"""DataLoader in all its uses: map and iterable datasets, collate, samplers, workers with seeds, pinning, persistence, ConcatDataset, weighted draws."""
import random

import numpy as np
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.utils.data import (BatchSampler, ConcatDataset, DataLoader, Dataset, IterableDataset, RandomSampler, Sampler, SequentialSampler, Subset,
                              WeightedRandomSampler, default_collate, get_worker_info, random_split)


class Sentences(Dataset):
    def __init__(self, n):
        rng = np.random.default_rng(0)
        self.items = [rng.integers(1, 9, rng.integers(2, 7)) for _ in range(n)]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, idx):
        if torch.is_tensor(idx):
            idx = idx.tolist()
        return {'text': torch.as_tensor(self.items[idx]), 'label': int(self.items[idx].sum() % 2), 'noise': np.float32(np.random.rand()), 'id': f's{idx}'}


class Stream(IterableDataset):
    def __init__(self, start, end):
        super().__init__()
        self.start, self.end = start, end

    def __iter__(self):
        info = get_worker_info()
        if info is None:
            return iter(range(self.start, self.end))
        per_worker = (self.end - self.start + info.num_workers - 1) // info.num_workers
        begin = self.start + info.id * per_worker
        return iter(range(begin, min(begin + per_worker, self.end)))


class ByLength(Sampler):
    def __init__(self, data):
        self.order = sorted(range(len(data)), key=lambda i: len(data.items[i]))

    def __iter__(self):
        return iter(self.order)

    def __len__(self):
        return len(self.order)


class SimpleCustomBatch:
    def __init__(self, data):
        self.lengths = torch.tensor([len(d['text']) for d in data])
        self.text = pad_sequence([d['text'] for d in data], batch_first=True)
        self.label = torch.tensor([d['label'] for d in data]).unsqueeze(1)

    def pin_memory(self):
        self.text = self.text.pin_memory() if torch.cuda.is_available() else self.text
        return self


def seed_worker(worker_id):
    worker_seed = torch.initial_seed() % 2 ** 32
    np.random.seed(worker_seed)
    random.seed(worker_seed)


def main():
    torch.manual_seed(7)
    np.random.seed(7)
    data = Sentences(20)
    g = torch.Generator()
    g.manual_seed(0)
    for workers in (0, 2):
        loader = DataLoader(data, batch_size=6, num_workers=workers, collate_fn=SimpleCustomBatch, sampler=ByLength(data), worker_init_fn=seed_worker, generator=g)
        for batch in loader:
            print(tuple(batch.text.shape), batch.text.sum().item(), batch.label.flatten().tolist())
    loader = DataLoader([d for d in data], batch_size=None, shuffle=True, num_workers=0)
    print([d['id'] for d in loader][:5])
    same = [d for d in data if len(d['text']) == 4]
    batch = next(iter(DataLoader(same, batch_size=len(same))))
    print({k: (v.dtype, tuple(v.shape)) if torch.is_tensor(v) else v for k, v in batch.items()})
    loader = DataLoader(data, batch_sampler=BatchSampler(SequentialSampler(data), 7, drop_last=False), num_workers=2, collate_fn=lambda b: [d['id'] for d in b],
                        persistent_workers=True, prefetch_factor=3, worker_init_fn=seed_worker)
    for epoch in range(2):
        print(list(loader))
    loader = DataLoader(data, batch_size=5, num_workers=2, collate_fn=lambda b: default_collate([d['noise'] for d in b]), worker_init_fn=seed_worker, generator=g)
    print(torch.cat(list(loader)).tolist())
    print(list(DataLoader(Stream(3, 7), num_workers=0)), sorted(int(x) for x in DataLoader(Stream(3, 20), num_workers=2)))
    weights = 1. / torch.bincount(torch.tensor([d['label'] for d in data])).float()
    sampler = WeightedRandomSampler(weights[[d['label'] for d in data]], num_samples=12, replacement=True)
    print(list(sampler), list(RandomSampler(data, replacement=True, num_samples=5)), list(RandomSampler(range(6), generator=g)))
    train, val, test = random_split(data, [0.5, 0.3, 0.2], generator=torch.Generator().manual_seed(42))
    print(train.indices, list(val.indices), len(test), len(ConcatDataset([train, test])), ConcatDataset([train, test])[10]['id'], Subset(data, [3, 5])[1]['id'])
    rnn = torch.nn.LSTM(4, 3, batch_first=True, bidirectional=True)
    emb = torch.nn.Embedding(10, 4, padding_idx=0)
    for batch in DataLoader(data, batch_size=5, collate_fn=SimpleCustomBatch, pin_memory=False):
        packed = pack_padded_sequence(emb(batch.text), batch.lengths, batch_first=True, enforce_sorted=False)
        out, (h, c) = rnn(packed)
        out, lengths = pad_packed_sequence(out, batch_first=True)
        print(tuple(out.shape), lengths.tolist(), out.sum().item(), h.norm().item())


if __name__ == '__main__':
    main()
