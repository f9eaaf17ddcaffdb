"""The model `physical` from the door: map, simulate --model physical, and what they write."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time

import pytest

import arraysmith
from arraysmith.flow.models import compare_models
from arraysmith.physical_performance import MappedNetwork, PhysicalFacts
from arraysmith.reporting import physical_facts, physical_tables
from arraysmith.simulation.physical.cost import UNCERTAINTY
from arraysmith.store import RunFolder
from arraysmith.workload import batched

TOPOLOGY = (
    "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, "
    "Strides,\nconv1, 32, 32, 5, 5, 1, 6, 1,\nmixDP, 16, 16, 3, 3, 8, 1, 1,\n"
    "conv2, 14, 14, 5, 5, 6, 16, 1,\n"
)
SMALL = ("-t", "three.csv", "--rows", "8", "--cols", "8")
WRITTEN = {
    ".lock",
    "mappings.json",
    "metrics.json",
    "physical.csv",
    "figs/physical_breakdown.png",
    "figs/physical_mapping.png",
    "figs/physical_roofline.png",
}


@pytest.fixture(autouse=True)
def topology(tmp_path):
    """Two convolutions and a depthwise layer of eight groups."""
    path = tmp_path / "three.csv"
    path.write_text(TOPOLOGY)
    return path


@pytest.fixture
def workload(topology):
    """The same as layers."""
    return arraysmith.read_workload(topology, grouped=True)


def array(*microarchitectures, **given):
    """An array of 8×8 PEs."""
    names = microarchitectures or ("ws-double-buffered",)
    kinds = tuple(arraysmith.Microarchitecture(name) for name in names)
    sizes = {"rows": 8, "cols": 8, "filter_buffer_kib": 128}
    return arraysmith.PhysicalAccelerator(microarchitectures=kinds, **(sizes | given))


def files(folder):
    """What lies in a folder, by its path there."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_map_prints_a_table_with_its_model(command, workload):
    """Each layer with its mapping, its cycles in parts, its energies and the proof."""
    finished = command("map", *SMALL)
    assert (finished.returncode, finished.stderr) == (0, "")
    title = "three on 8×8 ws-double-buffered: best mappings by cycles (model: physical)"
    assert title in finished.stdout
    assert UNCERTAINTY in finished.stdout
    found = arraysmith.map_network(workload, array())
    for layer, best in zip(workload.layers, found.layers, strict=True):
        (line,) = (line for line in finished.stdout.splitlines() if f" {layer.name} " in line)
        cells = [cell.strip() for cell in line.split("│")]
        metrics = best.best
        assert cells == [
            layer.name,
            physical_tables.in_short(metrics.mapping),
            f"{metrics.total_cycles:,}",
            (
                f"{metrics.compute_cycles:,} + {metrics.fill_drain_cycles:,} + "
                f"{metrics.stall_cycles:,}"
            ),
            f"{100 * metrics.utilization:.2f} %",
            f"{metrics.dram_bytes:,}",
            physical_facts.energy_text(metrics.energy.total_pj),
            f"{best.mappings:,}",
            f"{best.visited:,}",
            f"{best.cycles_at_least:,}",
        ]
    mappings = sum(layer.mappings for layer in found.layers)
    assert f"Proven best by cycles over {mappings:,} mappings, " in finished.stdout


def test_depthwise_rows_are_groups(workload):
    """One layer of eight groups, not eight layers."""
    assert [layer.name for layer in workload.layers] == ["conv1", "mixDP", "conv2"]
    assert workload.layers[1].groups == 8


def test_a_single_layer_shows_its_loop_nest(command):
    """`--layer` prints the nest, what is loaded where, and what moves."""
    finished = command("map", *SMALL, "--layer", "conv2", "--ofmap-kib", "1")
    assert finished.returncode == 0
    assert "conv2, loop nest (model: physical)" in finished.stdout
    assert "  for n in range(2):" in finished.stdout
    assert "# 8 of 16 output channels; filter tile loaded (1.2 KiB), stays" in finished.stdout
    assert "ofmap tile made, leaves complete" in finished.stdout
    assert "conv2: words that move (model: physical)" in finished.stdout
    assert "conv1" not in finished.stdout


def test_an_unknown_layer_is_named(command):
    """With the nearest one that there is."""
    finished = command("map", *SMALL, "--layer", "conv3")
    assert finished.returncode == 1
    assert finished.stderr == (
        "arraysmith: layer 'conv3' is not in 'three'; did you mean 'conv2'?\n"
    )


def test_json_says_it_all(command, workload):
    """Figures, mappings, energies in three sets and the proof."""
    finished = command("map", *SMALL, "--objective", "front", "--json")
    (found,) = json.loads(finished.stdout)
    assert found["model"] == "physical"
    assert found["proven_optimal"] is True
    assert found["uncertainty"] == UNCERTAINTY
    assert set(found["energy_pj"]) == {"low", "mid", "high"}
    expected = arraysmith.map_network(workload, array(), goal=arraysmith.Goal.FRONT)
    for layer, shown in zip(expected.layers, found["layers"], strict=True):
        assert shown["layer"] == layer.layer
        assert shown["total_cycles"] == layer.best.total_cycles
        assert shown["visited"] <= shown["mappings"] == layer.mappings
        assert shown["cycles_at_least"] <= shown["total_cycles"]
        assert len(shown["front"]) == len(layer.front)
        assert shown["mapping"]["tile"]["rows"] == layer.best.mapping.tile.rows
        energies = [each["energy_pj"]["mid"] for each in shown["front"]]
        assert energies == sorted(energies, reverse=True)
        parts = sum(part["mid"] for part in shown["energy_parts"].values())
        assert parts == pytest.approx(shown["energy_pj"]["mid"])
        edp = shown["energy_pj"]["high"] * shown["total_cycles"]
        assert shown["edp_pj_cycles"]["high"] == pytest.approx(edp)


def test_the_front_is_a_table(command):
    """Every mapping that none betters in cycles and energy."""
    finished = command("map", *SMALL, "--objective", "front", "--ofmap-kib", "1")
    assert "cycles against energy (model: physical)" in finished.stdout


def test_arrays_side_by_side(command):
    """Commas separate arrays, + joins what one can do; energies that do not rank say so."""
    finished = command(
        "map", *SMALL, "--microarchitecture", "ws-serial,os-overlapped+ws-double-buffered", "--json"
    )
    found = json.loads(finished.stdout)
    assert [each["microarchitectures"] for each in found] == [
        ["ws-serial"],
        ["os-overlapped", "ws-double-buffered"],
    ]
    assert found[0]["total_cycles"] >= found[1]["total_cycles"]


def test_a_run_folder_has_everything(command, tmp_path, workload):
    """Mappings, a row a layer, figures, typed facts; and figures are pictures."""
    finished = command("map", *SMALL, "-o", "run")
    assert finished.returncode == 0, finished.stderr
    assert files(tmp_path / "run") == WRITTEN
    for path in (tmp_path / "run" / "figs").iterdir():
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size > 10_000
    run = RunFolder(tmp_path / "run")
    (mapped,) = run.facts("mapping", tuple[MappedNetwork, ...])
    (physical,) = run.facts("physical", tuple[PhysicalFacts, ...])
    expected = arraysmith.map_network(workload, array())
    assert mapped.metrics == physical.metrics == expected.metrics
    assert [each.layer for each in physical.timelines] == ["conv1", "mixDP", "conv2"]
    with (tmp_path / "run" / "physical.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["total_cycles"]) for row in rows] == [
        layer.total_cycles for layer in expected.metrics.layers
    ]
    assert {row["model"] for row in rows} == {"physical"}
    for row, layer in zip(rows, expected.metrics.layers, strict=True):
        assert float(row["energy_mid_pj"]) == layer.energy.total_pj[1]
        assert int(row["ifmap_dram_words_read"]) == layer.ifmap.dram_words_read
        assert int(row["dram_bytes"]) == layer.dram_bytes


def test_files_of_more_arrays_do_not_stay(command, tmp_path):
    """A run on two arrays has files of each; a later one on one array leaves none of them."""
    both = ("--microarchitecture", "os-bus,ws-serial")
    assert command("map", *SMALL, *both, "-o", "run").returncode == 0
    second = {f"figs/physical_{name}_2.png" for name in ("breakdown", "roofline", "mapping")}
    assert files(tmp_path / "run") == WRITTEN | second | {"mappings_2.json"}
    assert command("map", *SMALL, "-o", "run").returncode == 0
    assert files(tmp_path / "run") == WRITTEN


def test_a_narrow_terminal_leaves_columns_out_by_name(tmp_path):
    """Columns that are not essential give way before any cell is cut."""
    import pty

    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "arraysmith", "map", *SMALL],
        cwd=tmp_path,
        env={**os.environ, "TERM": "dumb"},
        stdout=slave,
        stderr=subprocess.DEVNULL,
    )
    os.close(slave)
    text = b""
    while True:
        try:
            more = os.read(master, 65_536)
        except OSError:  # the other end is closed
            break
        if not more:
            break
        text += more
    os.close(master)
    assert process.wait(60) == 0
    shown = text.decode()
    assert "(left out in a terminal of 80 columns: mapping, = compute + fill/drain" in shown
    assert "energy low–mid–high" in shown
    assert "…" not in shown


def test_given_mappings_give_the_figures_of_map(command):
    """`simulate --mapping` of what map wrote is what map said."""
    joined = "os-overlapped+ws-double-buffered"
    given = (*SMALL, "--microarchitecture", joined, "--objective", "energy", "-o", "run")
    (found,) = json.loads(command("map", *given, "--json").stdout)
    again = ("simulate", "--model", "physical", *SMALL, "--mapping", "run/mappings.json", "--json")
    for more in ([], ["--microarchitecture", joined]):
        finished = command(*again, *more)
        assert finished.returncode == 0, finished.stderr
        (simulated,) = json.loads(finished.stdout)
        for layer, other in zip(found["layers"], simulated["layers"], strict=True):
            cycles = ("total_cycles", "compute_cycles", "fill_drain_cycles", "stall_cycles")
            for name in (*cycles, "dram_bytes", "energy_pj", "ifmap", "filter", "ofmap", "mapping"):
                assert layer[name] == other[name]


def test_simulate_without_a_file_is_the_best_by_cycles(command, workload, tmp_path):
    """And a given file makes earlier proofs untrue, so they go."""
    finished = command("simulate", "--model", "physical", *SMALL, "--json", "-o", "run")
    (found,) = json.loads(finished.stdout)
    best = arraysmith.map_network(workload, array())
    assert found["total_cycles"] == best.metrics.total_cycles
    run = RunFolder(tmp_path / "run")
    assert run.facts("mapping", tuple[MappedNetwork, ...]) is not None
    given = ("--mapping", "run/mappings.json", "-o", "run")
    assert command("simulate", "--model", "physical", *SMALL, *given).returncode == 0
    assert run.facts("mapping", tuple[MappedNetwork, ...]) is None


def test_a_config_describes_a_physical_array_too(command, tmp_path):
    """Sides, buffers and dataflow, which picks the pipelined array unless one is named."""
    (tmp_path / "array.cfg").write_text(
        "[general]\nrun_name = a\n[architecture_presets]\nArrayHeight: 4\nArrayWidth: 6\n"
        "IfmapSramSzkB: 3\nFilterSramSzkB: 5\nOfmapSramSzkB: 7\nDataflow : is\n"
        "[run_presets]\nInterfaceBandwidth: CALC\n"
    )
    given = ("simulate", "--model", "physical", "-c", "array.cfg", "-t", "three.csv", "--json")
    (found,) = json.loads(command(*given).stdout)
    assert (found["rows"], found["cols"]) == (4, 6)
    assert found["microarchitectures"] == ["is-double-buffered"]
    kib = [found[f"{operand}_buffer_kib"] for operand in ("ifmap", "filter", "ofmap")]
    assert kib == [3, 5, 7]
    (found,) = json.loads(command(*given, "--microarchitecture", "os-bus").stdout)
    assert found["microarchitectures"] == ["os-bus"]
    found = json.loads(command(*given, "--dataflow", "os,ws").stdout)
    assert [each["microarchitectures"] for each in found] == [
        ["os-overlapped"],
        ["ws-double-buffered"],
    ]


def test_every_option_changes_the_array(command):
    """Ports, word sizes and whole buffers arrive where they should."""
    (plain,) = json.loads(command("map", *SMALL, "--json").stdout)
    (narrow,) = json.loads(command("map", *SMALL, "--json", "--ofmap-port", "4").stdout)
    assert narrow["total_cycles"] > plain["total_cycles"]
    wide = ("--operand-bytes", "2", "--psum-bytes", "8", "--output-bytes", "2")
    (words,) = json.loads(command("map", *SMALL, "--json", *wide).stdout)
    assert words["dram_bytes"] >= 2 * plain["dram_bytes"] * 0.99
    whole = ("--whole-buffers", "--bandwidth", "1.5")
    (slow,) = json.loads(command("map", *SMALL, "--json", *whole).stdout)
    assert slow["double_buffered"] is False
    assert slow["dram_bytes_per_cycle"] == 1.5
    assert slow["stall_cycles"] > plain["stall_cycles"]


def test_images_of_a_batch_share_their_filters(command, topology):
    """Three images: three times the MACs, in less than three times the cycles of one."""
    (one,) = json.loads(command("map", *SMALL, "--json").stdout)
    (three,) = json.loads(command("map", *SMALL, "--batch", "3", "--json").stdout)
    assert three["macs"] == 3 * one["macs"]
    assert three["total_cycles"] < 3 * one["total_cycles"]
    assert three["dram_bytes"] < 3 * one["dram_bytes"]
    layers = arraysmith.read_workload(topology, grouped=True)
    found = arraysmith.map_network(batched(layers, 3), array())
    assert found.metrics.total_cycles == three["total_cycles"]


def test_rows_of_a_product_are_its_images():
    """Of a Gemm a batch makes more rows; of independent products, more of them."""
    shared = arraysmith.Gemm(name="fc", M=2, N=3, K=4)
    apart = arraysmith.Gemm(name="attention", M=2, N=3, K=4, batch=5)
    workload = arraysmith.Workload(name="two", layers=(shared, apart))
    first, second = batched(workload, 6).layers
    assert (first.M, first.batch) == (12, 1)
    assert (second.M, second.batch) == (2, 30)


PHYSICAL = ["simulate", "--model", "physical", *SMALL]
BAD = {
    "buffer": (
        ["map", *SMALL, "--ifmap-kib", "1", "--operand-bytes", "40"],
        (
            "layer 'conv1': its smallest tile takes 1,000 bytes of ifmap, of a buffer of 1 KiB a "
            "tile may take 512; give at least 2 KiB"
        ),
    ),
    "bandwidth": (
        ["map", *SMALL, "--bandwidth", "0"],
        "a DRAM bandwidth of 0.0 bytes a cycle cannot be; give 0.01 to 1,000,000",
    ),
    "bandwidth-nan": (
        ["map", *SMALL, "--bandwidth", "nan"],
        "a DRAM bandwidth of nan bytes a cycle cannot be; give 0.01 to 1,000,000",
    ),
    "port": (
        ["map", *SMALL, "--ofmap-port", "0"],
        "ofmap_port_bytes is 0, needs a whole number of at least 1",
    ),
    "batch": (["map", *SMALL, "--batch", "0"], "a batch of 0 images, needs at least 1"),
    "rows": (
        ["map", "-t", "three.csv", "--rows", "0"],
        "rows is 0, needs a whole number of at least 1",
    ),
    "microarchitecture": (
        ["map", *SMALL, "--microarchitecture", "ws-serial,ws-duoble-buffered"],
        "microarchitecture 'ws-duoble-buffered' is unknown; did you mean 'ws-double-buffered'?",
    ),
    "no-technology": (
        ["map", *SMALL, "--technology", "none.toml"],
        "none.toml: cannot be read (No such file or directory)",
    ),
    "technology-missing": (
        ["map", *SMALL, "--technology", "missing.toml"],
        (
            "missing.toml: [mid] multiply_pj is missing; give multiply_pj = { value = ..., "
            'source = "..." }'
        ),
    ),
    "technology-negative": (
        ["map", *SMALL, "--technology", "negative.toml"],
        "negative.toml: [low] multiply_pj: value is -1; give a number from 0 to 1e+06",
    ),
    "technology-unknown": (
        ["map", *SMALL, "--technology", "unknown.toml"],
        "unknown.toml: [mid] unknown entry 'multiply'; did you mean 'multiply_pj'?",
    ),
    "no-mapping": (
        [*PHYSICAL, "--mapping", "none.json"],
        "none.json: cannot be read (No such file or directory)",
    ),
    "mapping-large": (
        [*PHYSICAL, "--mapping", "large.json"],
        "large.json: layer 'conv1': a tile of 29 rows is larger than the layer's 28",
    ),
    "mapping-of-another-array": (
        [*PHYSICAL, "--mapping", "other.json", "--microarchitecture", "os-bus"],
        "other.json: layer 'conv1': its mapping is for ws-double-buffered, the array can do os-bus",
    ),
    "mapping-too-large-for-the-buffer": (
        [*PHYSICAL, "--mapping", "other.json", "--ofmap-kib", "1"],
        (
            "other.json: layer 'conv1': its mapping keeps 18,816 bytes of ofmap, of a buffer of 1 "
            "KiB a tile may take 512; give 37 KiB or smaller tiles"
        ),
    ),
    "foreign-run": (
        ["map", *SMALL, "-o", "foreign"],
        (
            "foreign/metrics.json: format 'other', expected 'arraysmith-run-1'; choose another "
            "output folder with -o"
        ),
    ),
}


@pytest.fixture
def bad_files(tmp_path, workload):
    """Technologies and mapping files that cannot be used, and a folder that is no run."""
    from arraysmith.formats.mappings import write_mappings
    from arraysmith.formats.technology import DEFAULT

    lines = DEFAULT.read_text().splitlines()
    low = next(place for place, line in enumerate(lines) if line.startswith("multiply_pj"))
    mid = next(
        place
        for place, line in enumerate(lines)
        if place > lines.index("[mid]") and line.startswith("multiply_pj")
    )
    negative = [*lines[:low], 'multiply_pj = { value = -1, source = "x" }', *lines[low + 1 :]]
    renamed = [*lines[:mid], 'multiply = { value = 1, source = "x" }', *lines[mid + 1 :]]
    for name, text in (
        ("missing", [*lines[:mid], *lines[mid + 1 :]]),
        ("negative", negative),
        ("unknown", renamed),
    ):
        (tmp_path / f"{name}.toml").write_text("\n".join(text))
    tile = {"in_channels": 1, "out_channels": 1}
    kind = arraysmith.Microarchitecture.WS_DOUBLE_BUFFERED
    mappings = [
        arraysmith.Mapping(
            microarchitecture=kind,
            order="MNK",
            tile=arraysmith.Tile(
                rows=layer.loops.rows,
                cols=layer.loops.cols,
                **(tile | {"out_channels": layer.loops.out_channels}),
            ),
        )
        for layer in workload.layers
    ]
    write_mappings(tmp_path / "other.json", workload, mappings)
    content = json.loads((tmp_path / "other.json").read_text())
    content["layers"][0]["tile"]["rows"] = 29
    (tmp_path / "large.json").write_text(json.dumps(content))
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "metrics.json").write_text('{"format": "other"}')


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD)
@pytest.mark.usefixtures("bad_files")
def test_bad_input_is_one_line(command, tmp_path, arguments, message):
    """One message that names thing, value and way out; exit 1; nothing written anywhere."""
    before = {path: (tmp_path / path).read_bytes() for path in files(tmp_path)}
    output = [] if "-o" in arguments else ["-o", "run"]
    finished = command(*arguments, *output)
    assert finished.stderr == f"arraysmith: {message}\n"
    assert (finished.returncode, finished.stdout) == (1, "")
    assert {path: (tmp_path / path).read_bytes() for path in files(tmp_path)} == before
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "physical", "-p", "x"], "--path belongs to --model scalesim"),
        (["--model", "physical", "--explain"], "--explain belongs to --model scalesim"),
        (["--model", "physical", "-s", "N"], "--save-traces belongs to --model scalesim"),
        (["--model", "physical", "-l", "x"], "--layout belongs to --model scalesim"),
        (["--psum-bytes", "4"], "--psum-bytes belongs to --model physical"),
        (["--batch", "4"], "--batch belongs to --model physical"),
        (["--mapping", "x"], "--mapping belongs to --model physical"),
        (["--whole-buffers"], "--whole-buffers belongs to --model physical"),
        (
            ["--model", "physical", "--dataflow", "ws", "--microarchitecture", "os-bus"],
            "give either --dataflow or --microarchitecture",
        ),
    ],
)
def test_options_of_the_other_model_are_refused(command, arguments, message):
    """By name, as wrong usage."""
    finished = command("simulate", "-t", "three.csv", *arguments)
    assert finished.returncode == 2
    assert finished.stderr.splitlines()[-1] == f"Error: {message}"


def test_explain_sets_the_models_side_by_side(command, workload, tmp_path):
    """SCALE-Sim's cycles and the physical ones, with the differences adding up."""
    (tmp_path / "two.csv").write_text(TOPOLOGY.replace("mixDP, 16, 16, 3, 3, 8, 1, 1,\n", ""))
    given = ("simulate", "-t", "two.csv", "--rows", "8", "--cols", "8", "--explain")
    shown = command(*given)
    assert shown.returncode == 0, shown.stderr
    title = "Model scalesim beside model physical (os-shift, then os-overlapped; best mappings by"
    assert title in shown.stdout
    for found in json.loads(command(*given, "--json").stdout):
        assert found["model"] == "scalesim CALC"
        for layer in found["physical"]:
            serial = layer["scalesim_cycles"] + layer["habits_cycles"] + layer["tiles_cycles"]
            assert serial + layer["serial_stall_cycles"] == layer["serial_cycles"]
            assert layer["pipelined_cycles"] <= layer["serial_cycles"]
    kinds = arraysmith.Dataflow
    for dataflow in kinds:
        accelerator = arraysmith.Accelerator(rows=8, cols=8, dataflow=dataflow)
        two = arraysmith.Workload(name="two", layers=workload.layers[::2])
        (result,) = arraysmith.simulate(two, (accelerator,))
        for layer in compare_models(two, result):
            # On the OS array SCALE-Sim forgets the drain of each fold; elsewhere only a cycle.
            assert layer.habits_cycles >= (8 if dataflow is kinds.OS else 1)


def test_the_verb_ends_with_one_line_on_control_c(tmp_path):
    """Ctrl-C in a search of half a minute: exit 1, one line, nothing written."""
    rows = "".join(
        f"conv{number}, {200 + number}, 210, 3, 3, 240, 360, 1,\n" for number in range(400)
    )
    (tmp_path / "many.csv").write_text("header\n" + rows)
    process = subprocess.Popen(
        [sys.executable, "-m", "arraysmith", "map", "-t", "many.csv", "-o", "run"],
        cwd=tmp_path,
        env=os.environ,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # A job in the background hands an ignored Ctrl-C on to its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    time.sleep(5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    try:
        _, message = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 1
    assert message.strip() == "arraysmith: interrupted; what was finished is kept"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"order": "', '"order": "X'),
        ('"compute_cycles": ', '"compute_cycles": 1'),
        ('"tiles_per_block": 1', '"tiles_per_block": 0'),
        ('"timelines": [', '"timelines": [], "old": ['),
    ],
)
def test_impossible_facts_are_named(tmp_path, workload, old, new):
    """A recorded mapping, sum or nest that cannot be is refused where it is read."""
    from arraysmith.errors import InputFileError

    arraysmith.map_network(workload, array(), tmp_path / "run")
    path = tmp_path / "run" / "metrics.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InputFileError, match=r"metrics\.json: section '(mapping|physical)' is dam"):
        arraysmith.report(tmp_path / "run")


def test_pictures_show_what_is_recorded(workload):
    """Bars of a timeline end where its steps do; dots are under both roofs."""
    from arraysmith.flow.mapping import timelines

    accelerator = array(ofmap_buffer_kib=1)
    found = arraysmith.map_network(workload, accelerator).metrics
    for timeline in timelines(workload, accelerator, found):
        drawn = physical_facts.spans(timeline)
        ends = [span.start_cycle + span.cycles for span in drawn]
        end = timeline.first_load_cycles + sum(step.cycles for step in timeline.steps)
        if not timeline.rest_steps:
            end = timeline.total_cycles
        assert max(ends) == pytest.approx(end)
        busy = sum(span.cycles for span in drawn if span.lane == physical_facts.ARRAY)
        assert busy == sum(step.array_cycles for step in timeline.steps)
        moved = sum(span.byte_count for span in drawn if span.kind == "ifmap")
        assert moved == timeline.first_loaded_bytes[0] + sum(
            step.loaded_bytes[0] for step in timeline.steps
        )
    for dot in physical_facts.dots(found):
        assert dot.macs_per_cycle <= found.rows * found.cols
        assert dot.macs_per_cycle <= dot.macs_per_dram_byte * found.dram_bytes_per_cycle
    assert sum(dot.share for dot in physical_facts.dots(found)) == pytest.approx(1)


def test_energies_that_do_not_rank_say_so():
    """Where low, mid and high disagree on two arrays, the totals name them."""
    from dataclasses import replace

    layer = arraysmith.Gemm(name="g", M=16, N=16, K=16)
    found = arraysmith.map_network(arraysmith.Workload(name="w", layers=(layer,)), array()).metrics
    (metrics,) = found.layers
    low, mid, high = metrics.energy.dram_pj
    energy = replace(metrics.energy, dram_pj=(low / 2, mid, high * 2))
    other = replace(found, cols=9, layers=(replace(metrics, energy=energy),))
    note = physical_tables.networks([found, other]).note
    assert note.endswith(
        "Low, mid and high estimates disagree on which takes less energy: 8×8 ws-double-buffered "
        "and 8×9 ws-double-buffered."
    )
    assert UNCERTAINTY in note
    assert "disagree" not in physical_tables.networks([found, found]).note
