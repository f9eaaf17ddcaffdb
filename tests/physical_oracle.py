"""A layer walked step by step on an accelerator: the slow twin of the model `physical`.

`docs/physical.md` says what is modelled. Nothing here is clever, so that it can be read and
believed. The loop nest is walked one tile after the other. A tile is the set of the addresses of
its words; an operand moves when its set is not the one of the step before, word by word. Every
multiply-accumulate is done, at its place in its fold, and finds its three words on the chip or the
walk stops. Nothing is multiplied up: what is counted was moved.

An address is

    of the ifmap    (group, image, row, column, channel)      padding has addresses too
    of the filter   (group, out channel, in channel, row, column)
    of the ofmap    (group, image, row, column, out channel)
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import product
from math import ceil

from arraysmith.hardware import Dataflow, Microarchitecture

OPERANDS = "ifmap", "filter", "ofmap"
LOOPS = {"M": ("images", "rows", "cols"), "N": ("outs",), "K": ("ins",)}
"""The loops a letter of the order stands for, outermost first."""
BLOCKED_LOOP = {"M": "rows", "N": "outs", "K": "ins"}
KEPT = {"M": "filter", "N": "ifmap", "K": "ofmap"}
"""The operand that the innermost letter does not index: it may stay for a whole block."""
ON_ARRAY = {
    Dataflow.OS: ("pixel", "out", "tap"),
    Dataflow.WS: ("tap", "out", "pixel"),
    Dataflow.IS: ("tap", "pixel", "out"),
}
"""What lies along the rows of the array, what along its columns, and what streams."""
LEFT_AND_TOP = {
    Dataflow.OS: ("ifmap", "filter"),
    Dataflow.WS: ("ifmap", "filter"),
    Dataflow.IS: ("filter", "ifmap"),
}
"""Which operand has a lane into each row, which one into each column; results leave by column."""


class DoesNotFit(Exception):  # noqa: N818 - it reads as a sentence where it is caught
    """A tile is larger than what a buffer has for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperandCounts:
    """Words of one operand that moved; the columns that cannot happen to it are 0."""

    dram_read_words: int = 0
    """Each is also one write into the operand's buffer."""
    dram_spilled_words: int = 0
    """Partial sums stored to come back; each is also one read of the ofmap buffer."""
    dram_final_words: int = 0
    """Outputs stored; each is also one read of the ofmap buffer."""
    buffer_read_words: int = 0
    """From the buffer to the array."""
    buffer_write_words: int = 0
    """From the array to the buffer."""
    largest_words: int = 0
    """Of the tiles that lay in the buffer."""

    @property
    def dram_write_words(self):
        """All that was stored."""
        return self.dram_spilled_words + self.dram_final_words


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """One step: the array computes while the channel loads for the next step and stores."""

    array_cycles: int
    transfer_cycles: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What happened to a layer."""

    total_cycles: int
    compute_cycles: int
    fill_drain_cycles: int
    stall_cycles: int
    steps: int
    macs: int
    ifmap: OperandCounts
    filter: OperandCounts
    ofmap: OperandCounts
    first_load_cycles: int
    last_store_cycles: int
    timeline: tuple[StepTime, ...]


def cut(whole, size):
    """A list or a range in pieces of `size`, of which the last may be smaller."""
    return [whole[at : at + size] for at in range(0, len(whole), size)]


def groups_side_by_side(sizes, accelerator, mapping):
    """How many groups a weight-stationary array takes at once, as blocks along its diagonal."""
    if mapping.microarchitecture.dataflow is not Dataflow.WS or sizes.groups == 1:
        return 1
    fit_in_rows = accelerator.rows // (sizes.in_channels * sizes.taps)
    fit_in_cols = accelerator.cols // sizes.out_channels
    return max(1, min(fit_in_rows, fit_in_cols))


def walk(sizes, accelerator, mapping):
    """The loop nest: for each step its ranges, and those of the operand that stays for a block."""
    tiles = {
        "images": cut(range(sizes.images), 1),
        "rows": cut(range(sizes.rows), mapping.tile.rows),
        "cols": cut(range(sizes.cols), mapping.tile.cols),
        "outs": cut(range(sizes.out_channels), mapping.tile.out_channels),
        "ins": cut(range(sizes.in_channels), mapping.tile.in_channels),
    }
    blocked = BLOCKED_LOOP.get(mapping.blocked)
    if blocked is not None:  # its loop runs over lists of tiles
        tiles[blocked] = cut(tiles[blocked], mapping.tiles_per_block)
    packs = cut(range(sizes.groups), groups_side_by_side(sizes, accelerator, mapping))
    names = ["groups", *(name for letter in mapping.order for name in LOOPS[letter])]
    for chosen in product(packs, *(tiles[name] for name in names[1:])):
        place = dict(zip(names, chosen, strict=True))
        if blocked is None:
            yield place, place
            continue
        block = place[blocked]
        assert len(block) == mapping.tiles_per_block, "blocks do not divide the tiles"
        whole = range(block[0].start, block[-1].stop)
        for tile in block:
            yield place | {blocked: tile}, place | {blocked: whole}


def ifmap_word(pixel, tap, stride):
    """The word that a pixel of the ofmap takes with one tap of its window."""
    (image, row, col), (group, channel, down, right) = pixel, tap
    return group, image, row * stride + down, col * stride + right, channel


def filter_word(tap, out):
    """The weight of a tap for an output channel."""
    (group, channel, down, right), (_, out_channel) = tap, out
    return group, out_channel, channel, down, right


def ofmap_word(pixel, out):
    """The word that a pixel and an output channel make."""
    (image, row, col), (group, out_channel) = pixel, out
    return group, image, row, col, out_channel


def pixels_of(place):
    """All pixels of the ofmap in a place of the nest."""
    return list(product(place["images"], place["rows"], place["cols"]))


def taps_of(place, sizes):
    """All that is summed up in a place of the nest; the groups one after the other."""
    window = range(sizes.filter_rows), range(sizes.filter_cols)
    return list(product(place["groups"], place["ins"], *window))


def outs_of(place):
    """All output channels in a place of the nest; the groups one after the other."""
    return list(product(place["groups"], place["outs"]))


def tile_words(operand, place, sizes):
    """The distinct words of an operand in a place of the nest."""
    pixels, taps, outs = pixels_of(place), taps_of(place, sizes), outs_of(place)
    if operand == "ifmap":
        return {ifmap_word(pixel, tap, sizes.stride) for pixel in pixels for tap in taps}
    if operand == "filter":
        return {filter_word(tap, out) for tap in taps for out in outs if tap[0] == out[0]}
    return {ofmap_word(pixel, out) for pixel in pixels for out in outs}


def resident_tiles(sizes, accelerator, mapping):
    """For each step its ranges and the three sets of words on the chip."""
    kept = KEPT[mapping.order[2]]
    for place, block in walk(sizes, accelerator, mapping):
        yield (
            place,
            {
                operand: tile_words(operand, block if operand == kept else place, sizes)
                for operand in OPERANDS
            },
        )


def folds_of(place, sizes, accelerator, dataflow):
    """What lies along the rows, along the columns, and streams, one fold after the other."""
    there = {"pixel": pixels_of(place), "tap": taps_of(place, sizes), "out": outs_of(place)}
    along_rows, along_cols, streams = (there[kind] for kind in ON_ARRAY[dataflow])
    for rows in cut(along_rows, accelerator.rows):
        for cols in cut(along_cols, accelerator.cols):
            yield rows, cols, streams


def array_cycles(microarchitecture, R, C, stream_lengths, beat=1):
    """Cycles of folds that follow each other on an array that is empty before.

    A border fold passes through the whole array like any other. The corner PE gets its operands
    R - 1 + C - 1 cycles after the first one. Where the ports are narrow, all of it moves only once
    in `beat` cycles; the registers before and after it do not wait.
    """
    skew = R - 1 + C - 1
    sram_read, psum_register = 1, 0 if microarchitecture.dataflow is Dataflow.OS else 1
    if microarchitecture is Microarchitecture.OS_OVERLAPPED:
        moves = _overlapped_moves(R, skew, stream_lengths)
    elif microarchitecture.value.endswith("double-buffered"):
        moves = _double_buffered_moves(R, skew, stream_lengths)
    else:
        moves = 0
        for T in stream_lengths:
            if microarchitecture.dataflow is not Dataflow.OS:
                moves += R  # a row of the operand that stays enters
            moves += skew + T
            if microarchitecture is Microarchitecture.OS_SHIFT:
                moves += R  # a row of results leaves
    return beat * moves + sram_read + psum_register


def _overlapped_moves(R, skew, stream_lengths):
    """A fold waits for the edge of the array and, with its first result, for the result bus."""
    edge_free = bus_free = end = 0
    for T in stream_lengths:
        start = max(edge_free, bus_free - (T - 1))
        edge_free = start + T
        bus_free = start + (T - 1) + R  # the PEs of the first column have the bus in turn
        end = start + skew + T
    return end


def _double_buffered_moves(R, skew, stream_lengths):
    """A fold waits for the edge of the array and for its weights, loaded during the last fold."""
    edge_free = end = 0
    loaded = R
    for T in stream_lengths:
        start = max(edge_free, loaded)
        edge_free = start + T
        loaded = start + R  # the places behind the weights are free from the start of the fold
        end = start + skew + T
    return end


class _Walk:
    """The chip and the DRAM while a layer is computed."""

    def __init__(self, layer, accelerator, mapping):
        self.sizes, self.accelerator, self.mapping = layer.loops, accelerator, mapping
        self.resident = {operand: set() for operand in OPERANDS}
        self.used = {operand: set() for operand in OPERANDS}  # of the resident words
        self.summed = {}  # for each word of the ofmap the taps that it already has
        self.written = set()  # words of the ofmap that the array has ever written
        self.spilled, self.final = set(), set()  # words of the ofmap in DRAM
        self.counts = {operand: Counter() for operand in OPERANDS}
        self.macs = 0

    # Between DRAM and buffers

    def load(self, operand, words, there=frozenset()):
        """Fill a buffer with a tile; return the bytes that came from DRAM.

        Words that are `there` from the tile before stay: a window that slides brings its halo.
        """
        accelerator = self.accelerator
        word_bytes = accelerator.psum_bytes if operand == "ofmap" else accelerator.operand_bytes
        whole = getattr(accelerator, f"{operand}_buffer_kib") * 1024
        room = whole // 2 if accelerator.double_buffered else whole
        if len(words) * word_bytes > room:
            raise DoesNotFit(f"{operand}: {len(words)} words of {word_bytes} bytes in {room}")
        counts = self.counts[operand]
        counts["largest_words"] = max(counts["largest_words"], len(words))
        assert not self.resident[operand]
        moved = 0
        for word in words:
            if operand == "ofmap":
                assert word not in self.final, "an output that is done is wanted again"
                if word not in self.summed:
                    continue  # it starts from nothing
                self.spilled.remove(word)
            if word in there:
                continue
            counts["dram_read_words"] += 1
            moved += word_bytes
        self.resident[operand] = set(words)
        return moved

    def leave(self, operand):
        """Empty a buffer; return the bytes that had to be stored."""
        assert self.used[operand] == self.resident[operand], "words nobody needed were there"
        moved = 0
        if operand == "ofmap":
            moved = sum(self.store(word) for word in self.resident[operand])
        self.resident[operand], self.used[operand] = set(), set()
        return moved

    def store(self, word):
        """Bring one word of the ofmap to DRAM; return its bytes."""
        counts = self.counts["ofmap"]
        if len(self.summed[word]) == self.sizes.in_channels * self.sizes.taps:
            assert word not in self.final, "an output was stored twice"
            self.final.add(word)
            counts["dram_final_words"] += 1
            return self.accelerator.output_bytes
        self.spilled.add(word)
        counts["dram_spilled_words"] += 1
        return self.accelerator.psum_bytes

    def exchange(self, tiles):
        """Bring the tiles of the next step where they are not those that lie there."""
        loaded = stored = 0
        for operand, words in tiles.items():
            if words != self.resident[operand]:
                there = self.resident[operand]
                stored += self.leave(operand)
                loaded += self.load(operand, words, there)
        return loaded, stored

    # Between buffers and array

    def compute(self, place):
        """Do all folds of a step; return the cycles of the array and those that do MACs."""
        accelerator, microarchitecture = self.accelerator, self.mapping.microarchitecture
        dataflow = microarchitecture.dataflow
        stream_lengths, beat = [], 1
        for rows, cols, streams in folds_of(place, self.sizes, accelerator, dataflow):
            self.fold(rows, cols, streams)
            stream_lengths.append(len(streams))
            beat = max(beat, self.beat(len(rows), len(cols)))
        R, C = accelerator.rows, accelerator.cols
        cycles = array_cycles(microarchitecture, R, C, stream_lengths, beat)
        return cycles, beat * sum(stream_lengths)

    def beat(self, row_lanes, col_lanes):
        """Cycles in which the ports carry what the array takes and gives in one."""
        accelerator = self.accelerator
        left, top = LEFT_AND_TOP[self.mapping.microarchitecture.dataflow]
        carried = {
            left: row_lanes * accelerator.operand_bytes,
            top: col_lanes * accelerator.operand_bytes,
            "ofmap": col_lanes * accelerator.psum_bytes,
        }
        beat = 1
        for operand, lane_bytes in carried.items():
            port_bytes = getattr(accelerator, f"{operand}_port_bytes")
            while port_bytes is not None and beat * port_bytes < lane_bytes:
                beat += 1
        return beat

    def fold(self, rows, cols, streams):
        """Do the MACs of a fold; each word passes between buffer and array once in a fold."""
        kinds = ON_ARRAY[self.mapping.microarchitecture.dataflow]
        ifmap_reads, filter_reads, ofmap_writes = set(), set(), set()
        for in_order in product(rows, cols, streams):
            mac = dict(zip(kinds, in_order, strict=True))
            pixel, tap, out = mac["pixel"], mac["tap"], mac["out"]
            if tap[0] != out[0]:
                continue  # of different groups: the weight here is a zero of the array's edge
            self.multiply_accumulate(pixel, tap, out)
            ifmap_reads.add((pixel, tap))  # not its address: each window takes its words anew
            filter_reads.add((tap, out))
            ofmap_writes.add(ofmap_word(pixel, out))
        self.counts["ifmap"]["buffer_read_words"] += len(ifmap_reads)
        self.counts["filter"]["buffer_read_words"] += len(filter_reads)
        for word in ofmap_writes:
            self.counts["ofmap"]["buffer_write_words"] += 1
            if word in self.written:  # it was read to be added to
                self.counts["ofmap"]["buffer_read_words"] += 1
            self.written.add(word)

    def multiply_accumulate(self, pixel, tap, out):
        """Add one product to one word of the ofmap."""
        addresses = {
            "ifmap": ifmap_word(pixel, tap, self.sizes.stride),
            "filter": filter_word(tap, out),
            "ofmap": ofmap_word(pixel, out),
        }
        for operand, word in addresses.items():
            assert word in self.resident[operand], f"a word of the {operand} is not on the chip"
            self.used[operand].add(word)
        result = addresses["ofmap"]
        assert result not in self.spilled, "added to a word whose partial sum is in DRAM"
        taps = self.summed.setdefault(result, set())
        assert tap not in taps, "a product was added twice"
        taps.add(tap)
        self.macs += 1


def run(layer, accelerator, mapping):
    """Compute a layer, step by step; raises DoesNotFit where a tile does not fit its buffer."""
    mapping.check_fits(layer.loops, layer.name)
    chip = _Walk(layer, accelerator, mapping)
    moved, computed = [], []  # bytes in and out before each step; cycles of each step
    for place, tiles in resident_tiles(layer.loops, accelerator, mapping):
        moved.append(chip.exchange(tiles))
        computed.append(chip.compute(place))
    for operand in ("ifmap", "filter"):
        chip.leave(operand)
    last_bytes = chip.leave("ofmap")
    sizes = layer.loops
    words = sizes.groups * sizes.images * sizes.rows * sizes.cols * sizes.out_channels
    assert len(chip.final) == words, "not every output was stored"
    assert chip.macs == layer.macs
    assert not chip.spilled
    return _counts(chip, moved, computed, last_bytes)


def _counts(chip, moved, computed, last_bytes):
    """Lay the steps one after the other in time."""
    rate = chip.accelerator.dram_rate
    first_load = ceil(moved[0][0] / rate)
    last_store = ceil(last_bytes / rate)
    now, timeline = first_load, []
    for at, (array, _) in enumerate(computed):
        # What left before this step is stored during it, what the next one needs is loaded.
        stored = moved[at][1]
        loaded = moved[at + 1][0] if at + 1 < len(moved) else 0
        step = StepTime(array_cycles=array, transfer_cycles=ceil((stored + loaded) / rate))
        timeline.append(step)
        now += max(step.array_cycles, step.transfer_cycles)
    now += last_store
    on_array = sum(array for array, _ in computed)
    compute = sum(with_macs for _, with_macs in computed)
    return Counts(
        total_cycles=now,
        compute_cycles=compute,
        fill_drain_cycles=on_array - compute,
        stall_cycles=now - on_array,
        steps=len(computed),
        macs=chip.macs,
        **{operand: OperandCounts(**chip.counts[operand]) for operand in OPERANDS},
        first_load_cycles=first_load,
        last_store_cycles=last_store,
        timeline=tuple(timeline),
    )
