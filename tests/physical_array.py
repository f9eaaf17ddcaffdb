"""The PE array register by register: it multiplies real matrices and nobody tells it how long.

In each cycle every PE sees what its left and upper neighbours held in the cycle before. Operands
enter at the left and upper edge, skewed by one cycle a lane. Between the memories and the edge is
one register: the word whose address is out in cycle t is at the edge in cycle t + 1. So the cycles
counted here, from the first address to the last result, have the SRAM's read in them, and for the
weight-stationary array the register in which a PE hands on its partial sum.

When the next fold begins is not written down either: `simulate` tries an interval of one cycle,
two, three, until no two folds are in each other's way. What is in the way is hardware: two words on
one lane or one bus, a weight overwritten before its use, a fold in an array that holds only one.

Border folds are filled up with zeros to the whole array; their results leave like all others.
The results of folds along K are added up where they leave.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from arraysmith.hardware import Dataflow, Microarchitecture


class InTheWayError(Exception):
    """Two folds want the same wire or register in the same cycle."""


@dataclass(frozen=True, slots=True)
class Operand:
    """A word on its way through the array, one PE a cycle."""

    value: int
    fold: int
    index: int
    """Which of the T words of its lane it is."""
    first: bool
    last: bool
    """The first and the last of its fold; the bits travel with it."""


@dataclass(frozen=True, slots=True)
class Weight:
    """A word on its way down to the row where it stays."""

    value: int
    fold: int
    row: int


@dataclass(frozen=True, slots=True)
class Fold:
    """R rows and C columns of a product, filled up with zeros; the lanes' words and their place."""

    left: list
    """For each row its words, in order."""
    top: list
    """OS: for each column its words, in order. WS: for each column the R words that stay."""
    at: tuple
    """Row and column of the product at the corner."""


class _Lanes:
    """What the memories are asked for in each cycle, and the register between them and the edge."""

    def __init__(self):
        self.asked = {}  # cycle: {lane: word}
        self.edge = {}

    def ask(self, cycle, lane, word):
        """Schedule one read; a lane carries one word a cycle."""
        words = self.asked.setdefault(cycle, {})
        if lane in words:
            raise InTheWayError(f"two words on {lane} in cycle {cycle}")
        words[lane] = word

    def clock(self, cycle):
        """The words read in this cycle are at the edge in the next."""
        self.edge = self.asked.pop(cycle, {})


def _only_one_fold(folds):
    if len(set(folds)) > 1:
        raise InTheWayError(f"folds {sorted(set(folds))} are in the array at once")


class _OutputStationary:
    """PEs with an accumulator each; results leave by a bus per column or are shifted out.

    The last MAC of a PE drives the bus in its own cycle; one PE of a column ends in a cycle. With
    overlapped folds it is the same bus, and the next fold is let in before the last has left.
    """

    def __init__(self, R, C, microarchitecture):
        self.R, self.C = R, C
        self.shifts = microarchitecture is Microarchitecture.OS_SHIFT
        self.one_at_a_time = microarchitecture is not Microarchitecture.OS_OVERLAPPED
        self.right = [[None] * C for _ in range(R)]  # operands, as each PE hands them on
        self.down = [[None] * C for _ in range(R)]
        self.sums = [[0] * C for _ in range(R)]
        self.done = set()  # the PEs that hold a result to be shifted out
        self.shifting = 0  # rows still to leave
        self.fold = None  # whose results they are

    def schedule(self, lanes, number, fold, start):
        """Word t of lane i enters i cycles after word t of lane 0."""
        for side, words_of in (("left", fold.left), ("top", fold.top)):
            for lane, words in enumerate(words_of):
                for t, value in enumerate(words):
                    word = Operand(value, number, t, t == 0, t == len(words) - 1)
                    lanes.ask(start + t + lane, (side, lane), word)

    def cycle(self, edge):
        """Let one cycle pass; return the results that leave: (fold, row, column, value)."""
        R, C = self.R, self.C
        right = [[None] * C for _ in range(R)]
        down = [[None] * C for _ in range(R)]
        left_of, above, sums = self.right, self.down, [list(row) for row in self.sums]
        bus, leaving = {}, self._shift_out(sums)
        busy = [fold for fold, *_ in leaving]
        for r, c in product(range(R), range(C)):
            a = left_of[r][c - 1] if c else edge.get(("left", r))
            b = above[r - 1][c] if r else edge.get(("top", c))
            right[r][c], down[r][c] = a, b
            if a is None and b is None:
                continue
            assert (a.fold, a.index) == (b.fold, b.index), "the skew is wrong"
            busy.append(a.fold)
            sums[r][c] = (0 if a.first else self.sums[r][c]) + a.value * b.value
            if a.last and self.shifts:
                self.done.add((r, c))
                self.fold = a.fold
            elif a.last:
                if c in bus:
                    raise InTheWayError(f"two results on the bus of column {c}")
                bus[c] = (a.fold, r, c, sums[r][c])
        if self.one_at_a_time:
            _only_one_fold(busy)
        if len(self.done) == R * C:  # the last PE is done: from the next cycle on all shift
            self.shifting, self.done = R, set()
        self.right, self.down, self.sums = right, down, sums
        return [*leaving, *bus.values()]

    def _shift_out(self, sums):
        """All sums move one row down; the lowest row leaves."""
        if not self.shifting:
            return []
        row = self.shifting - 1  # where in its fold the row that leaves now was
        leaving = [(self.fold, row, c, self.sums[-1][c]) for c in range(self.C)]
        sums[1:] = [list(above) for above in self.sums[:-1]]
        self.shifting -= 1
        return leaving


class _WeightStationary:
    """PEs that keep a weight and add to the partial sum that comes from above."""

    def __init__(self, R, C, microarchitecture):
        self.R, self.C = R, C
        self.double_buffered = microarchitecture.value.endswith("double-buffered")
        self.right = [[None] * C for _ in range(R)]
        self.psums = [[None] * C for _ in range(R)]  # (fold, index, sum), handed down
        self.arriving = [[None] * C for _ in range(R)]  # weights on their way, or there
        self.weights = [[None] * C for _ in range(R)]  # in use

    def schedule(self, lanes, number, fold, start):
        """The lowest row's weight enters first; then the words stream.

        Double-buffered weights are skewed like everything else; they are there just in time.
        """
        R = self.R
        for c, words in enumerate(fold.top):
            for row, value in enumerate(words):
                skew = c if self.double_buffered else 0
                lanes.ask(start + R - 1 - row + skew, ("top", c), Weight(value, number, row))
        for lane, words in enumerate(fold.left):
            for t, value in enumerate(words):
                word = Operand(value, number, t, t == 0, t == len(words) - 1)
                lanes.ask(start + R + t + lane, ("left", lane), word)

    def cycle(self, edge):
        """Let one cycle pass; return the results that leave: (fold, index, column, value)."""
        R, C = self.R, self.C
        # The lowest PEs' registers are what the ofmap memory sees in this cycle.
        leaving = [
            (fold, index, c, value)
            for c, psum in enumerate(self.psums[-1])
            if psum is not None
            for fold, index, value in [psum]
        ]
        busy = []
        right = [[None] * C for _ in range(R)]
        psums = [[None] * C for _ in range(R)]
        for r, c in product(range(R), range(C)):
            a = self.right[r][c - 1] if c else edge.get(("left", r))
            right[r][c] = a
            if a is None:
                continue
            busy.append(a.fold)
            psums[r][c] = a.fold, a.index, self._psum(r, c, a) + self._weight(r, c, a) * a.value
        busy += self._move_weights(edge)
        if not self.double_buffered:
            _only_one_fold(busy)
        self.right, self.psums = right, psums
        return leaving

    def _psum(self, r, c, a):
        """What comes from above to be added to: nothing in the first row."""
        if r == 0:
            return 0
        fold, index, value = self.psums[r - 1][c]
        assert (fold, index) == (a.fold, a.index), "the skew is wrong"
        return value

    def _weight(self, r, c, a):
        """The weight of a PE; with the first word of a fold comes the bit that swaps."""
        if a.first:
            there = self.arriving[r][c]
            if there is None or (there.fold, there.row) != (a.fold, r):
                raise InTheWayError(f"the weight of PE {r}, {c} has not arrived")
            self.weights[r][c], self.arriving[r][c] = there, None
        return self.weights[r][c].value

    def _move_weights(self, edge):
        """Each weight on its way moves down one row, until it is in its own; return their folds."""
        before = [list(row) for row in self.arriving]
        for r, c in product(range(self.R), range(self.C)):
            comes = before[r - 1][c] if r else edge.get(("top", c))
            if r and comes is not None and comes.row == r - 1:
                comes = None  # it is where it stays
            stays = before[r][c] is not None and before[r][c].row == r
            if stays and comes is not None:
                raise InTheWayError(f"the weight of PE {r}, {c} is overwritten before its use")
            if not stays:
                self.arriving[r][c] = comes
        return [
            weight.fold
            for old, new in zip(before, self.arriving, strict=True)
            for was, weight in zip(old, new, strict=True)
            if weight is not None and weight is not was
        ]


def _padded(matrix, row, col, rows, cols):
    """A part of a matrix, with zeros where the matrix has ended."""
    return [
        [
            matrix[i][j] if i < len(matrix) and j < len(matrix[0]) else 0
            for j in range(col, col + cols)
        ]
        for i in range(row, row + rows)
    ]


def _transposed(matrix):
    return [list(column) for column in zip(*matrix, strict=True)]


def _folds(A, B, R, C, dataflow):
    """The product in parts of the size of the array."""
    M, K, N = len(A), len(B), len(B[0])
    if dataflow is Dataflow.OS:
        return [
            Fold(_padded(A, i, 0, R, K), _transposed(_padded(B, 0, j, K, C)), (i, j))
            for i, j in product(range(0, M, R), range(0, N, C))
        ]
    return [
        Fold(_transposed(_padded(A, 0, k, M, R)), _transposed(_padded(B, k, j, R, C)), (0, j))
        for k, j in product(range(0, K, R), range(0, N, C))
    ]


def attempt(A, B, R, C, microarchitecture, *, interval):
    """Multiply with a fold each `interval` cycles; return the product and the cycles it took."""
    dataflow = microarchitecture.dataflow
    if dataflow is Dataflow.IS:  # the array of WS, operands swapped
        twin = Microarchitecture(microarchitecture.value.replace("is", "ws"))
        turned, cycles = attempt(_transposed(B), _transposed(A), R, C, twin, interval=interval)
        return _transposed(turned), cycles
    kind = _OutputStationary if dataflow is Dataflow.OS else _WeightStationary
    array, lanes = kind(R, C, microarchitecture), _Lanes()
    folds = _folds(A, B, R, C, dataflow)
    for number, fold in enumerate(folds):
        array.schedule(lanes, number, fold, number * interval)
    results_in_all = len(folds) * C * (R if dataflow is Dataflow.OS else len(A))
    sums = [[0] * len(B[0]) for _ in A]
    cycle = left = 0
    while left < results_in_all:
        for fold, row, col, value in array.cycle(lanes.edge):
            left += 1
            i, j = folds[fold].at[0] + row, folds[fold].at[1] + col
            if i < len(sums) and j < len(sums[0]):
                sums[i][j] += value
            else:
                assert value == 0, "a result of nothing is not nothing"
        lanes.clock(cycle)
        cycle += 1
    return sums, cycle


def simulate(A, B, R, C, microarchitecture):
    """Multiply as fast as the array can; return product, cycles, and cycles from fold to fold."""
    interval = 1
    while True:
        try:
            return *attempt(A, B, R, C, microarchitecture, interval=interval), interval
        except InTheWayError:
            interval += 1
