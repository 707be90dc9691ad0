"""The solver's face: checks at the door, batches, random streams, the descent, results on the CPU."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import normalize

from . import checks
from .descent import Batch, cuda_graph, descend
from .kmeans import kmeans, random_tokens
from .products import float32_products
from .settings import FIELDS, Anchors, CoNMFError, Initial, Projection, Result, Settings, stream

# Bytes of tokens that one CPU thread works on at a time, so that a batch stays in the cache; with large tokens still so
# many samples that the projection and the anchors, which all samples share, are worth fetching.
CACHE_BYTES = 3 << 20
FEWEST, MOST = 8, 64
# Bytes of tokens, counted for each seed, that are worth a thread: with less, threads wait for the interpreter's lock.
THREAD_BYTES = 4 << 20
# On a GPU more samples gain nothing, and progress would be rare.
MOST_ON_CUDA = 512
# Samples whose start is computed together: k-means works in float64 and must not set the peak of memory. A GPU waits
# for launches with fewer.
START_BATCH = {"cpu": 16, "cuda": 128}


class CoNMF:
    """Penalised soft co-factorization of image and audio tokens (paper, Section 3).

    For every sample and seed minimises over W_I, W_A (any sign) and V_I, V_A ≥ 0, with U = sigmoid(W),

        β_I ‖X_I - U_I V_I‖_F + β_A ‖X_A - U_A V_A‖_F + β_p min_k CE_k + temporal term

    by projected gradient descent with gradients in closed form.

    Parameters
    ----------
    settings : Settings
    anchors : Anchors
    device : str or torch.device
        ``"cpu"`` uses ``torch.get_num_threads()`` threads, one batch each.
    """

    def __init__(self, settings: Settings, anchors: Anchors, device: str | torch.device = "cpu") -> None:
        checks.check_anchors(anchors)
        self.settings, self.anchors, self.device = settings, anchors, torch.device(device)
        self.stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None

    def fit(
        self,
        image_tokens: Tensor | Sequence[Tensor],
        audio_tokens: Tensor | Sequence[Tensor],
        keys: Sequence[str],
        seeds: Sequence[int] = (0, 1, 2),
        clips: Sequence[object] | None = None,
        initial: Initial | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Result:
        """Factorize S samples for R seeds.

        Parameters
        ----------
        image_tokens : Tensor [S, N, C_I] or list of Tensor [N_i, C_I]
            Non-negative, finite, not all zero. Half precision is computed in float32, float64 in float64.
        audio_tokens : Tensor [S, T, C_A] or list of Tensor [T_i, C_A]
            Non-negative and finite; an all-zero matrix is legal and gives zero factors and chance descriptors.
        keys : list of str, length S
            ``"<dataset>/<sample_id>"``: name each sample's random streams. All different.
        seeds : sequence of int
            One run of each sample per seed.
        clips : sequence, length S, optional
            Clip of each sample; consecutive equal values are the frames of one clip, in order. Used by the temporal
            term only.
        initial : Initial, optional
            Start, for ``init="given"``.
        progress : callable, optional
            Called with the number of samples just finished.

        Returns
        -------
        Result
        """
        image, audio, dtype = checks.check_tokens(image_tokens, audio_tokens, self.anchors, self.settings)
        keys, seeds = [str(key) for key in keys], tuple(int(seed) for seed in seeds)
        checks.check_names(keys, seeds, clips, len(image), self.settings)
        checks.check_initial(initial, image, audio, len(seeds), self.settings)
        units = _units(clips if self.settings.beta_temporal > 0 else None, len(image))
        prepared = _prepare(self.anchors, dtype, self.device)
        capture = cuda_graph if self.device.type == "cuda" else None
        accelerate = self._accelerate(prepared, capture)

        def solve(batch: list[list[int]]) -> tuple[list[int], Result, int]:
            with self._on_device():
                order = [i for unit in batch for i in unit]
                start = self._batch(batch, image, audio, keys, seeds, initial, dtype)
                return order, *descend(start, self.settings, prepared, capture, accelerate)

        size = self._batch_size(image, audio, len(seeds), dtype.itemsize)
        collected, risen = [], 0
        with float32_products("ieee"):
            for order, result, worse in self._run(solve, units, size):
                collected.append((order, result))
                risen += worse
                if progress is not None:
                    progress(len(order))
        if risen:
            warnings.warn(
                f"co-NMF: the objective ended above its start in {risen} of {len(units) * len(seeds)} runs; "
                "take a smaller learning_rate",
                RuntimeWarning,
                stacklevel=2,
            )
        return _assemble(collected, len(image), seeds)

    def initial_factors(
        self, tokens: Tensor | Sequence[Tensor], keys: Sequence[str], modality: str
    ) -> Tensor:
        """V's start in one modality (k-means or random tokens): seeds, variants and word banks share it (`Initial`).

        Parameters
        ----------
        tokens : Tensor [S, N, C] or list of Tensor [N_i, C]
        keys : list of str, length S
            As for :meth:`fit`.
        modality : {"image", "audio"}

        Returns
        -------
        Tensor [S, K, C]
            On the CPU, bit for bit what :meth:`fit` would start from.
        """
        matrices, dtype = checks.check_modality(tokens, modality, self.anchors, self.settings)
        keys = [str(key) for key in keys]
        checks.check_names(keys, (0,), range(len(matrices)), len(matrices), self.settings)
        if self.settings.init == "given":
            raise CoNMFError("init: expected a way to start (kmeans or random_tokens), found 'given'")
        with self._on_device():
            size = START_BATCH[self.device.type]
            parts = [
                self._start(*_pad(part, self.device, dtype), names, modality).cpu()
                for part, names in zip(_slices(matrices, size), _slices(keys, size))
            ]
        return torch.cat(parts)

    @contextmanager
    def _on_device(self) -> Iterator[None]:
        """Inference on a CUDA device's own stream, as a graph can only be captured beside the default one."""
        with torch.inference_mode():
            if self.device.type != "cuda":
                yield
                return
            with torch.cuda.device(self.device):
                self.stream.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(self.stream):
                    yield
                torch.cuda.current_stream().wait_stream(self.stream)

    def _accelerate(self, prepared: Anchors, capture: Callable | None) -> Callable | None:
        """What makes fast steps of plain ones, where device and settings have them."""
        if self.device.type != "cuda" or not self.settings.fast:
            return None
        try:
            from . import fast  # needs Triton, which not every platform has
        except ImportError:
            warnings.warn(
                "co-NMF: no Triton, so steps are the plain ones, slower several times", stacklevel=3
            )
            return None
        if not fast.available(self.device):
            return None
        with self._on_device():
            return partial(fast.make, self.settings, fast.constants_of(prepared), capture)

    def _start(self, tokens: Tensor, counts: Tensor, keys: list[str], modality: str) -> Tensor:
        method = {"kmeans": kmeans, "random_tokens": random_tokens}[self.settings.init]
        names = [f"{key}/{modality}" for key in keys]
        k, seed = self.settings.n_components, self.settings.init_seed
        size = START_BATCH[self.device.type]
        parts = zip(tokens.split(size), counts.split(size), _slices(names, size))
        return torch.cat([method(*part, k, seed) for part in parts])

    def _batch(self, units, image, audio, keys, seeds, initial, dtype) -> Batch:
        """Tokens, start and links of the samples of ``units``, padded, on the device."""
        order = [i for unit in units for i in unit]
        names = [keys[i] for i in order]
        sides = []
        for modality, tokens in (("image", image), ("audio", audio)):
            x, counts = _pad([tokens[i] for i in order], self.device, dtype)
            if self.settings.init == "given":
                v = getattr(initial, f"{modality}_factors")[order].to(x)
                v = v.clone()
            else:
                v = self._start(x, counts, names, modality)
            v = v[:, None].expand(-1, len(seeds), -1, -1).clone()
            given = None if initial is None else getattr(initial, f"{modality}_weights")
            if given is None:
                w = _draw(names, seeds, counts, x.shape[1], self.settings.n_components, modality)
            else:
                w = given[:, order, : x.shape[1]].transpose(0, 1)
            w = w.to(x).transpose(2, 3).contiguous()
            outside = torch.arange(x.shape[1], device=self.device) >= counts.to(self.device)[:, None]
            w.masked_fill_(outside[:, None, None], float("-inf"))  # U is 0 there, and stays so
            sides.append((x, counts, w, v))
        return Batch(*sides, lengths=[len(unit) for unit in units])

    def _run(self, solve, units, size):
        """Yield the results of batches of units; halve a batch for which memory is short.

        A CPU thread works on a batch of its own, also when there is but one batch: the products of a step are too small
        to share, and so the number of threads does not touch the results.
        """
        batches = _chunks(units, size)
        threads = torch.get_num_threads() if self.device.type == "cpu" else 1
        if threads == 1:
            for batch in batches:
                yield from _halving(solve, batch)
            return
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            try:
                futures = [pool.submit(lambda b=batch: list(_halving(solve, b))) for batch in batches]
                for future in as_completed(futures):
                    yield from future.result()
            finally:
                pool.shutdown(cancel_futures=True)
                torch.set_num_threads(threads)

    def _batch_size(self, image: list[Tensor], audio: list[Tensor], n_seeds: int, item: int) -> int:
        """Samples per batch: the setting, or what fits the cache (CPU) or the free memory (CUDA)."""
        if self.settings.batch_size != "auto":
            return self.settings.batch_size
        tokens = max(x.numel() for x in image) + max(x.numel() for x in audio)
        if self.device.type == "cpu":
            most = max(FEWEST, min(MOST, CACHE_BYTES // (tokens * item)))
            worthwhile = len(image) * n_seeds * tokens * item // THREAD_BYTES
            threads = max(1, min(torch.get_num_threads(), worthwhile))
            batches = -(-len(image) // most)
            batches = -(-batches // threads) * threads  # each thread gets as many, all of one size
            return max(2, -(-len(image) // batches))
        k, j = self.settings.n_components, len(self.anchors.image)
        rows = 5 * j + 6 * self.anchors.audio.shape[1] + 6 * (image[0].shape[1] + audio[0].shape[1])
        activations = 4 * (max(map(len, image)) + max(map(len, audio)))
        per_sample = (
            item * (2 * tokens + n_seeds * k * (rows + activations)) * (2 if self.settings.fast else 1)
        )
        return max(1, min(MOST_ON_CUDA, int(0.7 * free_bytes(self.device)) // per_sample))


def free_bytes(device: torch.device) -> int:
    """Memory of a CUDA device that new tensors may take, torch's own reserve included."""
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def _prepare(anchors: Anchors, dtype: torch.dtype, device: torch.device) -> Anchors:
    """Anchors of the computing type on the device: image rows of length 1, audio rows of length τ."""
    image, audio = (normalize(rows.to(device, dtype), dim=1) for rows in (anchors.image, anchors.audio))
    audio = audio * float(anchors.scale)
    *matrices, eps = anchors.projection
    projection = Projection(*(m.detach().to(device, dtype) for m in matrices), eps)
    return Anchors(image.detach(), audio.detach(), float(anchors.scale), projection)


def _units(clips: Sequence[object] | None, n_samples: int) -> list[list[int]]:
    """Samples that must be solved together: the frames of a clip, or each sample alone."""
    if clips is None:
        return [[i] for i in range(n_samples)]
    units: list[list[int]] = []
    for i in range(n_samples):
        if i and clips[i] == clips[i - 1]:
            units[-1].append(i)
        else:
            units.append([i])
    return units


def _chunks(units: list[list[int]], size: int) -> list[list[list[int]]]:
    """Batches of whole units: as few as hold at most ``size`` samples each (or one larger unit), filled evenly.

    A batch of one sample is left only where one is asked for or there is no other: in the last digits, a single matrix is
    not multiplied as several are.
    """
    total, count, filled = sum(map(len, units)), 0, size
    for unit in units:
        if filled + len(unit) > size:
            count, filled = count + 1, 0
        filled += len(unit)
    chunks: list[list[list[int]]] = [[] for _ in range(count)]
    before = 0
    for unit in units:  # to the share of the samples in which its middle lies
        chunks[(2 * before + len(unit)) * count // (2 * total)].append(unit)
        before += len(unit)
    whole: list[list[list[int]]] = []
    for chunk in filter(None, chunks):
        if size > 1 and whole and 1 in (sum(map(len, chunk)), sum(map(len, whole[-1]))):
            whole[-1] += chunk
        else:
            whole.append(chunk)
    return whole


def _slices(items: list, size: int) -> list[list]:
    """Consecutive pieces of at most ``size`` items."""
    return [items[i : i + size] for i in range(0, len(items), size)]


def _halving(solve, batch):
    """Solve a batch; where memory is short, in halves."""
    try:
        yield solve(batch)
        return
    except RuntimeError as error:
        if not _out_of_memory(error):
            raise
        if len(batch) == 1:
            raise CoNMFError(
                f"one {'clip' if len(batch[0]) > 1 else 'sample'} does not fit the memory: {error}"
            ) from error
    torch.cuda.empty_cache()
    half = len(batch) // 2
    warnings.warn(
        f"co-NMF: out of memory with {len(batch)} units; going on with {half}. Set a smaller batch_size.",
        ResourceWarning,
        stacklevel=2,
    )
    yield from _halving(solve, batch[:half])
    yield from _halving(solve, batch[half:])


def _out_of_memory(error: BaseException | None) -> bool:
    """Whether this is, or came of, a want of memory; the end of a broken capture fails with an error of its own."""
    while error is not None and not isinstance(error, torch.OutOfMemoryError):
        error = error.__context__
    return error is not None


def _pad(tokens: list[Tensor], device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Tokens [S, N, C] padded with zero rows, and their counts [S] (CPU); a GPU gets them in the type they lie in."""
    counts = [len(x) for x in tokens]
    kinds = {x.dtype for x in tokens}
    padded = torch.empty(
        len(tokens),
        max(counts),
        tokens[0].shape[1],
        dtype=kinds.pop() if len(kinds) == 1 else dtype,
        pin_memory=device.type == "cuda",
    )
    for row, x in zip(padded, tokens):
        row[: len(x)] = x
        row[len(x) :] = 0
    return padded.to(device, non_blocking=True).to(dtype), torch.tensor(counts)


def _draw(keys: list[str], seeds: Sequence[int], counts: Tensor, width: int, k: int, modality: str) -> Tensor:
    """W ~ N(0, 1) [S, R, width, K] from the stream of each (seed, key, modality), drawn on the CPU in float32."""
    weights = torch.zeros(len(keys), len(seeds), width, k)
    for sample, key, n in zip(weights, keys, counts.tolist()):
        for run, seed in zip(sample, seeds):
            run[:n].normal_(generator=stream(seed, key, modality))
    return weights


def _assemble(parts: list[tuple[list[int], Result]], n_samples: int, seeds: tuple[int, ...]) -> Result:
    """One result in the order of the samples, from those of the batches."""
    first = parts[0][1]

    def gather(pick: Callable[[Result], Tensor]) -> Tensor:
        tensors = [pick(result) for _, result in parts]
        shape = [max(t.shape[d] for t in tensors) for d in range(tensors[0].dim())]
        shape[1] = n_samples
        whole = tensors[0].new_zeros(shape)
        for (order, _), t in zip(parts, tensors):
            target = whole[:, order]
            target[tuple(slice(0, length) for length in t.shape)] = t
            whole[:, order] = target
        return whole

    def build(pick: Callable[[Result], Result]) -> Result:
        fields = {name: gather(lambda result, name=name: getattr(pick(result), name)) for name in FIELDS}
        return Result(
            **fields,
            objective=gather(lambda result: pick(result).objective),
            objective_steps=pick(first).objective_steps,
            seeds=seeds,
        )

    whole = build(lambda result: result)
    for step in first.checkpoints:
        whole.checkpoints[step] = build(lambda result, step=step: result.checkpoints[step])
    return whole
